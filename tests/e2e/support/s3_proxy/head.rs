//! Heads of requests and answers: read, looked into, and passed on as they came.

use std::io;

use tokio::io::{AsyncBufRead, AsyncBufReadExt as _};

/// The lines up to the empty one, with their line ends.
#[derive(Clone, Debug)]
pub struct Head(Vec<String>);

/// Reads a head. `None`: the connection ended before one.
pub async fn read(from: &mut (impl AsyncBufRead + Unpin)) -> io::Result<Option<Head>> {
    let mut lines = Vec::new();
    loop {
        let mut line = String::new();
        if from.read_line(&mut line).await? == 0 {
            let ended = || io::Error::from(io::ErrorKind::UnexpectedEof);
            return if lines.is_empty() { Ok(None) } else { Err(ended()) };
        }
        if line.trim_end().is_empty() {
            return Ok(Some(Head(lines)));
        }
        lines.push(line);
    }
}

impl Head {
    /// Of a request: its method, and its path with the query.
    pub fn request_line(&self) -> (&str, &str) {
        let mut words = self.0[0].split_whitespace();
        (words.next().unwrap(), words.next().unwrap())
    }

    /// Of an answer.
    pub fn status(&self) -> u16 {
        self.0[0].split_whitespace().nth(1).unwrap().parse().unwrap()
    }

    pub fn header(&self, name: &str) -> Option<&str> {
        let header = |line: &'_ String| line.split_once(':').map(|(n, _)| n.to_ascii_lowercase());
        let line = self.0.iter().skip(1).find(|line| header(line).as_deref() == Some(name))?;
        Some(line.split_once(':')?.1.trim())
    }

    pub fn content_length(&self) -> Option<u64> {
        Some(self.header("content-length")?.parse().unwrap())
    }

    /// Another value for a header, or none.
    pub fn set(&mut self, name: &str, value: Option<&str>) {
        let prefix = format!("{name}:");
        self.0.retain(|line| !line.to_ascii_lowercase().starts_with(&prefix));
        self.0.extend(value.map(|value| format!("{name}: {value}\r\n")));
    }

    /// As it goes over the line.
    pub fn bytes(&self) -> Vec<u8> {
        format!("{}\r\n", self.0.concat()).into_bytes()
    }
}
