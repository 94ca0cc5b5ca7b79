//! The token in use, and how it is read again when the server does not take it any more.

use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

use tracing::info;

use super::{Token, TokenError, TokenSources};

/// Between two times of reading it again. A server that takes no token at all does not have us run
/// a script for each call.
const REREAD_PAUSE: Duration = Duration::from_secs(30);

/// The token in use, and where it came from.
#[derive(Debug)]
pub struct Tokens {
    sources: TokenSources,
    current: Mutex<Token>,
    /// When it was last read again. Held while that is done: who comes meanwhile waits for it.
    reread_at: tokio::sync::Mutex<Option<Instant>>,
}

impl Tokens {
    /// Reads the token for the first time.
    ///
    /// # Errors
    /// When there is none.
    pub async fn read(sources: TokenSources) -> Result<Self, TokenError> {
        let current = Mutex::new(sources.read().await?);
        Ok(Self { sources, current, reread_at: tokio::sync::Mutex::default() })
    }

    /// The one to be sent.
    pub(in crate::api) fn current(&self) -> Token {
        self.current.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    /// The server does not take `refused`. Answers whether there is another one by now.
    ///
    /// # Errors
    /// When it was read again and there is none.
    pub(in crate::api) async fn renew(
        &self,
        refused: &Token,
        now: Instant,
    ) -> Result<bool, TokenError> {
        let mut reread_at = self.reread_at.lock().await;
        // Of many calls that are refused at once, the first reads it for all.
        if self.current() != *refused {
            return Ok(true);
        }
        let recent = |at: Instant| now.saturating_duration_since(at) < REREAD_PAUSE;
        if reread_at.is_some_and(recent) {
            return Ok(false);
        }
        let read = self.sources.read().await;
        // Also when it failed.
        *reread_at = Some(Instant::now().max(now));
        let token = read?;
        if token == *refused {
            return Ok(false);
        }
        info!("the server did not take the token any more; read another one");
        *self.current.lock().unwrap_or_else(PoisonError::into_inner) = token;
        Ok(true)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn an_unchanged_token_is_not_read_again_for_a_while() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("token");
        let write = |text: &str| std::fs::write(&file, text).unwrap();
        write("first");
        let sources = TokenSources { file: Some(file.clone()), ..TokenSources::default() };
        let tokens = Tokens::read(sources).await.unwrap();
        let (first, now) = (tokens.current(), Instant::now());
        assert!(!tokens.renew(&first, now).await.unwrap());
        write("second");
        assert!(!tokens.renew(&first, now + REREAD_PAUSE / 2).await.unwrap());
        assert!(tokens.renew(&first, now + 2 * REREAD_PAUSE).await.unwrap());
        assert_eq!(tokens.current().reveal(), "second");
        // Whoever was refused with the one before is told at once.
        assert!(tokens.renew(&first, now + 2 * REREAD_PAUSE).await.unwrap());
        assert!(!format!("{tokens:?}").contains("second"));
    }
}
