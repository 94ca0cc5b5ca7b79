use std::{
    fs,
    os::unix::fs::{MetadataExt as _, PermissionsExt as _},
    path::Path,
    process::Stdio,
};

use tokio::process::Command;

use super::{account::Account, *};

/// Says to the copy of this test program that it is to be killed, and on which folder.
const VICTIM_DATA_DIR: &str = "NIKS3_TEST_VICTIM_DATA_DIR";

/// A state folder that the account of PostgreSQL can enter.
fn state_dir() -> TempDir {
    let everyone = fs::Permissions::from_mode(0o755);
    tempfile::Builder::new().permissions(everyone).tempdir().unwrap()
}

fn options(state_dir: &Path) -> PostgresOptions {
    let setting = |key: &str, value: &str| (key.to_owned(), value.to_owned());
    PostgresOptions {
        data_dir: state_dir.join("postgres"),
        settings: vec![setting("fsync", "off"), setting("max_connections", "17")],
    }
}

async fn ask(postgres: &Postgres, database: &str, question: &str) -> String {
    let client = postgres.connect(database).await.unwrap();
    client.query_one(question, &[]).await.unwrap().get(0)
}

fn pid_in(data_dir: &Path) -> Pid {
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap();
    Pid::from_raw(text.lines().next().unwrap().parse().unwrap()).unwrap()
}

#[tokio::test]
async fn a_restart_on_the_same_folder_keeps_the_data() {
    let state = state_dir();
    let postgres = Postgres::start(options(state.path())).await.unwrap();
    let name = "it's a \"cache\" \\ name";
    postgres.create_database_if_absent(name).await.unwrap();
    let client = postgres.connect(name).await.unwrap();
    client.batch_execute("CREATE TABLE t AS SELECT 'kept' AS x").await.unwrap();
    assert_eq!(ask(&postgres, name, "SHOW max_connections").await, "17");
    assert_eq!(ask(&postgres, name, "SHOW listen_addresses").await, "");
    assert_eq!(ask(&postgres, name, "SHOW server_encoding").await, "UTF8");
    assert_eq!(ask(&postgres, name, "SHOW lc_collate").await, "C");
    let socket_dir = postgres.socket_dir.path().to_owned();
    assert_eq!(fs::metadata(&socket_dir).unwrap().mode() & 0o777, 0o700);
    postgres.stop().await;
    assert!(!socket_dir.exists());

    let postgres = Postgres::start(options(state.path())).await.unwrap();
    postgres.create_database_if_absent(name).await.unwrap();
    assert_eq!(ask(&postgres, name, "SELECT x FROM t").await, "kept");
    postgres.stop().await;
}

#[tokio::test]
async fn two_at_once_on_one_folder_are_refused_and_dropping_one_lets_the_next_in() {
    let state = state_dir();
    let first = Postgres::start(options(state.path())).await.unwrap();
    let error = Postgres::start(options(state.path())).await.err().unwrap();
    assert!(matches!(error, PostgresError::InUse { .. }), "{error:?}");
    assert!(error.hint().is_some());
    // Not waited for: the next start finds it shutting down.
    drop(first);
    Postgres::start(options(state.path())).await.unwrap().stop().await;
}

/// Not a test of its own: the process that the next one kills.
#[tokio::test]
#[ignore = "run by the test that kills it"]
async fn victim() {
    let Ok(data_dir) = std::env::var(VICTIM_DATA_DIR) else { return };
    let state = PathBuf::from(data_dir);
    let _postgres = Postgres::start(options(&state)).await.unwrap();
    fs::write(state.join("ready"), "").unwrap();
    std::future::pending::<()>().await;
}

#[tokio::test]
async fn what_a_killed_process_left_running_is_stopped_first() {
    let state = state_dir();
    let mut victim = Command::new(std::env::current_exe().unwrap())
        .args(["--ignored", "--exact", "dev::postgres::tests::victim"])
        .env(VICTIM_DATA_DIR, state.path())
        .stdout(Stdio::null())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let ready = state.path().join("ready");
    timeout(START_BOUND, async {
        while !ready.exists() {
            sleep(PAUSE).await;
        }
    })
    .await
    .unwrap();
    victim.kill().await.unwrap();

    let data_dir = state.path().join("postgres").canonicalize().unwrap();
    let orphan = pid_in(&data_dir);
    assert!(rustix::process::test_kill_process(orphan).is_ok());
    let text = fs::read_to_string(data_dir.join("postmaster.pid")).unwrap();
    let socket_dir = PathBuf::from(text.lines().nth(4).unwrap());
    assert!(socket_dir.exists());

    let postgres = Postgres::start(options(state.path())).await.unwrap();
    assert_ne!(pid_in(&data_dir), orphan);
    assert!(!socket_dir.exists());
    let log = fs::read_to_string(state.path().join("postgres.log")).unwrap();
    assert!(log.contains("received fast shutdown request"), "{log}");
    postgres.stop().await;
}

#[tokio::test]
async fn a_pid_file_that_names_some_other_process_is_no_obstacle() {
    let state = state_dir();
    Postgres::start(options(state.path())).await.unwrap().stop().await;
    let data_dir = state.path().join("postgres").canonicalize().unwrap();
    // A process of the same user as PostgreSQL, for which PostgreSQL would refuse to start.
    let mut bystander = Command::new("sleep");
    if let Some(account) = Account::to_run_as(&data_dir).unwrap() {
        bystander.uid(account.uid).gid(account.gid);
    }
    let mut bystander = bystander.arg("60").kill_on_drop(true).spawn().unwrap();
    let pid = bystander.id().unwrap();
    let shown = data_dir.display();
    let text = format!("{pid}\n{shown}\n1700000000\n5432\n/tmp/niks3-pg-gone\n\n\nready\n");
    fs::write(data_dir.join("postmaster.pid"), text).unwrap();

    Postgres::start(options(state.path())).await.unwrap().stop().await;
    assert!(bystander.try_wait().unwrap().is_none());
}

#[tokio::test]
async fn without_postgresql_the_error_says_where_it_looked_and_how_to_get_it() {
    let state = state_dir();
    let nowhere = state.path().join("nowhere");
    let path = Some(nowhere.clone().into_os_string());
    let search = Search { path, versioned: nowhere.join("versions") };
    let error = Postgres::start_with(options(state.path()), search).await.err().unwrap();
    let nowhere = nowhere.display();
    assert_eq!(
        error.to_string(),
        format!(
            "PostgreSQL's `initdb` and `postgres` are in none of {nowhere}, {nowhere}/versions/*/bin"
        )
    );
    assert!(error.hint().unwrap().contains("apt-get install postgresql"));
}

#[tokio::test]
async fn a_start_that_fails_quotes_the_log() {
    let state = state_dir();
    let mut options = options(state.path());
    options.settings.push(("shared_buffers".to_owned(), "much".to_owned()));
    let error = Postgres::start(options).await.err().unwrap();
    assert!(error.to_string().contains("invalid value for parameter"), "{error}");
}

#[tokio::test]
async fn a_folder_of_other_things_is_left_alone() {
    let state = state_dir();
    let data_dir = state.path().join("postgres");
    fs::create_dir(&data_dir).unwrap();
    fs::write(data_dir.join("letters"), "").unwrap();
    let error = Postgres::start(options(state.path())).await.err().unwrap();
    assert!(matches!(error, PostgresError::NotADataDir { .. }), "{error:?}");
}

#[tokio::test]
async fn an_initdb_that_was_cut_off_is_done_again() {
    let state = state_dir();
    let half = state.path().join("postgres.initdb");
    fs::create_dir(&half).unwrap();
    fs::write(half.join("PG_VERSION"), "15\n").unwrap();
    Postgres::start(options(state.path())).await.unwrap().stop().await;
    assert!(!half.exists());
}

#[tokio::test]
async fn a_cluster_of_another_version_is_refused() {
    let state = state_dir();
    let data_dir = state.path().join("postgres");
    fs::create_dir(&data_dir).unwrap();
    fs::write(data_dir.join("PG_VERSION"), "8\n").unwrap();
    let error = Postgres::start(options(state.path())).await.err().unwrap();
    assert!(error.to_string().contains("was made by PostgreSQL 8, installed here: "), "{error}");
}
