//! The secrets of a development cache: made on first start, kept in files that only their owner
//! reads.

use std::{
    fs,
    io::{self, Write as _},
    os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _},
    path::{Path, PathBuf},
};

use niks3_core::signing::SigningKey;

use super::DevError;
use crate::{auth::Token, s3::Credentials};

/// The token's file in the state folder.
pub(super) const TOKEN_FILE: &str = "api-token";
const KEY_FILE: &str = "signing-key";
const S3_FILE: &str = "s3-secret";
/// The signing key's name, by which readers know it.
const KEY_NAME: &str = "niks3-dev-1";
const ACCESS_KEY: &str = "niks3-dev";

pub(super) struct Secrets {
    pub(super) api_token: Token,
    pub(super) signing_key: SigningKey,
    pub(super) s3: Credentials,
}

impl Secrets {
    pub(super) fn load_or_make(state: &Path) -> Result<Self, DevError> {
        let failed = |source| DevError::State { path: state.to_owned(), source };
        // Others may look inside: PostgreSQL runs as another user where we are root.
        fs::DirBuilder::new().recursive(true).mode(0o755).create(state).map_err(failed)?;
        let key_path = state.join(KEY_FILE);
        let key = load_or_make(&key_path, || {
            let key = SigningKey::from_seed(KEY_NAME, &random()).expect("the name is a good one");
            key.secret_text()
        })?;
        let token = load_or_make(&state.join(TOKEN_FILE), || hex(&random()))?;
        let secret_key = load_or_make(&state.join(S3_FILE), || hex(&random()))?;
        Ok(Self {
            api_token: token.parse().map_err(|error| {
                let source = io::Error::new(io::ErrorKind::InvalidData, error);
                DevError::State { path: state.join(TOKEN_FILE), source }
            })?,
            signing_key: key.parse().map_err(|_| DevError::Key(key_path))?,
            s3: Credentials { access_key: ACCESS_KEY.to_owned(), secret_key },
        })
    }
}

fn load_or_make(path: &PathBuf, make: impl Fn() -> String) -> Result<String, DevError> {
    let failed = |source| DevError::State { path: path.clone(), source };
    match fs::read_to_string(path) {
        Ok(text) => Ok(text.trim().to_owned()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => {
            let text = make();
            let mut options = fs::OpenOptions::new();
            options.write(true).create_new(true).mode(0o600);
            let mut file = options.open(path).map_err(failed)?;
            file.write_all(format!("{text}\n").as_bytes()).map_err(failed)?;
            file.sync_all().map_err(failed)?;
            Ok(text)
        }
        Err(error) => Err(failed(error)),
    }
}

fn random() -> [u8; 32] {
    let mut bytes = [0; 32];
    getrandom::fill(&mut bytes).expect("the operating system has randomness");
    bytes
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}
