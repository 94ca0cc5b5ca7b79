//! The proxies that the tests of faults rest on do what their names say.

use std::time::{Duration, Instant};

use md5::{Digest as _, Md5};
use niks3_core::hash::BodyMd5;
use rusty_s3::{Credentials, S3Action as _, UrlStyle};
use tokio_postgres::NoTls;

use crate::support::{
    Bucket, Fate, Fault, PgProxy, S3Proxy, connect, create_database, each, first, first_try, http,
    parts,
};

/// A bucket, and the proxy before it.
struct Line {
    direct: Bucket,
    proxy: S3Proxy,
    bucket: rusty_s3::Bucket,
    credentials: Credentials,
}

impl Line {
    async fn start() -> Self {
        let (direct, proxy, s3) = (Bucket::create().await, S3Proxy::start().await, &parts().s3);
        let endpoint = proxy.endpoint().parse().unwrap();
        let name = direct.name().to_owned();
        let bucket =
            rusty_s3::Bucket::new(endpoint, UrlStyle::Path, name, s3.region.clone()).unwrap();
        let credentials = Credentials::new(s3.access_key.clone(), s3.secret_key.clone());
        Self { direct, proxy, bucket, credentials }
    }

    async fn put(&self, key: &str, body: Vec<u8>) -> reqwest::Result<reqwest::Response> {
        let md5 = BodyMd5::new(Md5::digest(&body).into()).to_string();
        let mut put = self.bucket.put_object(Some(&self.credentials), key);
        put.headers_mut().insert("content-md5", md5.clone());
        let request = http().put(put.sign(Duration::from_secs(60))).header("content-md5", md5);
        request.body(body).send().await
    }

    async fn get(&self, key: &str) -> reqwest::Result<Vec<u8>> {
        let get = self.bucket.get_object(Some(&self.credentials), key);
        let answer = http().get(get.sign(Duration::from_secs(60))).send().await?;
        let status = answer.error_for_status_ref().map(drop);
        // To its end: then it is in the proxy's log.
        let body = answer.bytes().await?;
        status.map(|()| body.to_vec())
    }

    async fn stored(&self, key: &str) -> Option<Vec<u8>> {
        Some(self.direct.raw(key).await?.0)
    }
}

fn large() -> Vec<u8> {
    (0..1_000_003_u32).map(|n| (n % 251) as u8).collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_fault_the_proxy_passes_everything_on_and_counts_it() {
    let line = Line::start().await;
    assert_eq!(line.put("large", large()).await.unwrap().status(), 200);
    assert!(line.get("large").await.unwrap() == large(), "what came back is what was sent");
    assert!(line.get("none").await.unwrap_err().status().unwrap() == 404);
    let log = line.proxy.log();
    let told: Vec<_> = log.iter().map(|it| (it.seen.method.as_str(), it.s3, it.answered)).collect();
    let both = |status| (Some(status), Some(status));
    let ((put, put2), (get, get2), (none, none2)) = (both(200), both(200), both(404));
    assert_eq!(told, [("PUT", put, put2), ("GET", get, get2), ("GET", none, none2)]);
    assert_eq!((log[0].seen.key.as_str(), log[0].seen.bytes), ("large", 1_000_003));
    assert!(log[0].seen.query.is_empty(), "{:?}", log[0].seen.query);
    assert_eq!(line.proxy.most_in_flight(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_of_the_proxy_is_given_and_nothing_is_passed_on() {
    let line = Line::start().await;
    let slow_down = Fault::Answer { status: 503, code: "SlowDown", retry_after: Some(1) };
    line.proxy.set(first(1, |seen| seen.puts("key"), slow_down));
    let told = line.put("key", large()).await.unwrap();
    assert_eq!(
        (told.status().as_u16(), &told.headers()["retry-after"]),
        (503, &"1".parse().unwrap())
    );
    assert!(told.text().await.unwrap().contains("<Code>SlowDown</Code>"));
    assert_eq!(line.stored("key").await, None);
    assert_eq!(line.put("key", large()).await.unwrap().status(), 200);

    line.proxy.set(first_try(|_| true, Fault::ErrorIn200 { code: "InternalError" }));
    let told = line.put("other", large()).await.unwrap();
    assert_eq!(told.status(), 200);
    assert!(told.text().await.unwrap().contains("<Code>InternalError</Code>"));
    assert_eq!(line.stored("other").await, None);
    // Each of another key or method is a first try; the second is not.
    assert_eq!(line.put("other", large()).await.unwrap().text().await.unwrap(), "");
    assert!(line.get("other").await.unwrap().starts_with(b"<?xml"));
    assert!(line.get("other").await.unwrap() == large());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reset_is_one_and_s3_has_what_the_fault_says() {
    let line = Line::start().await;
    for (fault, s3, stored) in [
        (Fault::Reset, None, false),
        (Fault::ResetInBody, None, false),
        (Fault::LoseAnswer, Some(200), true),
    ] {
        let key = format!("{fault:?}");
        line.proxy.set(each(|seen| seen.method == "PUT", fault));
        let error = line.put(&key, large()).await.unwrap_err();
        let causes = niks3_core::causes::causes(&error).join(": ");
        assert!(causes.contains("reset") || causes.contains("roken pipe"), "{key}: {causes}");
        assert_eq!(line.stored(&key).await.is_some(), stored, "{key}");
        let log = line.proxy.log();
        let record = log.last().unwrap();
        assert_eq!((record.s3, record.answered), (s3, None), "{key}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_answer_is_another_or_ends_early_after_s3_has_done_its_work() {
    let line = Line::start().await;
    line.proxy.set(each(|_| true, Fault::AnswerAfter { status: 500, code: "InternalError" }));
    assert_eq!(line.put("key", large()).await.unwrap().status(), 500);
    assert!(line.stored("key").await.unwrap() == large());

    line.proxy.set(each(|_| true, Fault::TruncateAnswer));
    assert!(line.get("key").await.is_err(), "a GET");
    let put = line.put("key", large()).await.unwrap();
    assert!(put.status() == 200 && put.bytes().await.is_err(), "a PUT, whose answer was empty");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_body_with_another_bit_is_refused_by_its_md5() {
    let line = Line::start().await;
    line.proxy.set(first(1, |_| true, Fault::FlipBit));
    let told = line.put("key", large()).await.unwrap();
    assert_eq!(told.status(), 400);
    assert!(told.text().await.unwrap().contains("<Code>BadDigest</Code>"));
    assert_eq!(line.stored("key").await, None);
    assert_eq!(line.put("key", large()).await.unwrap().status(), 200);
    assert!(line.stored("key").await.unwrap() == large());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_late_or_slow_takes_its_time() {
    let line = Line::start().await;
    for (fault, ms) in [(Fault::latency(200), 200), (Fault::Slow(3_000_000), 300)] {
        line.proxy.set(each(|_| true, fault.clone()));
        let started = Instant::now();
        assert_eq!(line.put("key", large()).await.unwrap().status(), 200);
        assert!(started.elapsed() >= Duration::from_millis(ms), "{fault:?}: {started:?}");
    }
    line.proxy.set(each(|_| true, Fault::latency(200)));
    let (a, b) = tokio::join!(line.get("key"), line.get("key"));
    assert!(a.unwrap() == b.unwrap());
    assert_eq!(line.proxy.most_in_flight(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_commit_is_lost_or_done_and_nobody_hears_of_it() {
    let (database, proxy) = (create_database().await, PgProxy::start().await);
    let look = connect(&database).await;
    for (fate, tables) in [(Fate::Lost, 0_i64), (Fate::Committed, 1)] {
        let url = proxy.database_url().replace("DATABASE", &database);
        let (mut client, connection) = tokio_postgres::connect(&url, NoTls).await.unwrap();
        tokio::spawn(connection);
        client.transaction().await.unwrap().commit().await.unwrap();
        proxy.cut_commit(2, fate);
        client.transaction().await.unwrap().commit().await.unwrap();
        assert!(!proxy.has_cut_commit());
        let tx = client.transaction().await.unwrap();
        tx.batch_execute("CREATE TABLE committed ()").await.unwrap();
        assert!(tx.commit().await.unwrap_err().is_closed(), "{fate:?}");
        assert!(proxy.has_cut_commit());
        let count = "SELECT count(*) FROM pg_tables WHERE tablename = 'committed'";
        assert_eq!(look.query_one(count, &[]).await.unwrap().get::<_, i64>(0), tables, "{fate:?}");
    }
    assert_eq!(proxy.commits(), 6);
}
