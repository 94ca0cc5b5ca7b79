//! One request on its way to S3 and its answer on the way back.

use std::{io, time::Duration};

use tokio::{
    io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, copy_buf, sink},
    net::TcpStream,
    time::sleep,
};

use super::{
    Fault, UnderWay,
    head::{self, Head},
};

/// How often a slow body moves on.
const TICK: Duration = Duration::from_millis(20);

/// Bytes of a body that are in memory.
const CHUNK: usize = 64 * 1024;

/// What an answer promises that has no body to cut.
const PROMISED: u64 = 64;

/// Carries out one request. Answers whether the sender's connection is good for another.
pub async fn carry(
    s3: &str,
    sender: &mut BufReader<TcpStream>,
    head: &Head,
    fault: Fault,
    request: &mut UnderWay<'_>,
) -> io::Result<bool> {
    assert!(head.header("transfer-encoding").is_none(), "S3 takes no chunked body: {head:?}");
    let fault = match fault {
        Fault::Late(pause, fault) => {
            sleep(pause).await;
            *fault
        }
        fault => fault,
    };
    let (status, code, retry_after) = match fault {
        Fault::Reset => return reset(sender),
        Fault::Answer { status, code, retry_after } => (status, code, retry_after),
        Fault::ErrorIn200 { code } => (200, code, None),
        Fault::Body(xml) => {
            drain(sender, request).await?;
            return write_answer(sender, request, 200, None, &xml).await;
        }
        fault => return forward(s3, sender, head, &fault, request).await,
    };
    drain(sender, request).await?;
    answer(sender, request, status, code, retry_after).await
}

async fn drain(sender: &mut BufReader<TcpStream>, request: &UnderWay<'_>) -> io::Result<u64> {
    let mut body = (&mut *sender).take(request.record.seen.bytes);
    copy_buf(&mut body, &mut sink()).await
}

async fn forward(
    s3: &str,
    sender: &mut BufReader<TcpStream>,
    head: &Head,
    fault: &Fault,
    request: &mut UnderWay<'_>,
) -> io::Result<bool> {
    let mut s3 = TcpStream::connect(s3).await?;
    s3.set_nodelay(true)?;
    let mut head = head.clone();
    // S3 then ends its answer with the connection, whatever its length is told with.
    head.set("connection", Some("close"));
    s3.write_all(&head.bytes()).await?;
    let whole = send_body(sender, &mut s3, request.record.seen.bytes, fault).await?;
    if *fault == Fault::ResetInBody {
        s3.set_zero_linger()?;
        return reset(sender);
    }
    let mut s3 = BufReader::new(s3);
    let Some(mut head) = head::read(&mut s3).await? else { return reset(sender) };
    if let Fault::ClockOff(seconds) = fault {
        head.set("date", Some(&date(*seconds)));
    }
    request.record.s3 = Some(head.status());
    match *fault {
        Fault::LoseAnswer => {
            // What was asked is done when all of the answer is here.
            copy_buf(&mut s3, &mut sink()).await?;
            reset(sender)
        }
        Fault::AnswerAfter { status, code } => {
            copy_buf(&mut s3, &mut sink()).await?;
            answer(sender, request, status, code, None).await
        }
        Fault::TruncateAnswer => truncate(sender, s3, head, request).await,
        _ => pass_back(sender, s3, head, whole, request).await,
    }
}

/// Passes an answer on. `whole`: S3 has read all of the request.
async fn pass_back(
    sender: &mut BufReader<TcpStream>,
    mut s3: BufReader<TcpStream>,
    mut head: Head,
    whole: bool,
    request: &mut UnderWay<'_>,
) -> io::Result<bool> {
    let has_length = head.header("content-length").or(head.header("transfer-encoding")).is_some();
    let again = whole && (has_length || has_no_body(&head, request));
    head.set("connection", (!again).then_some("close"));
    request.record.answered = Some(head.status());
    // The last bytes stay here until the request has ended.
    let mut last = head.bytes();
    loop {
        let chunk = s3.fill_buf().await?.to_vec();
        if chunk.is_empty() {
            break;
        }
        s3.consume(chunk.len());
        sender.write_all(&std::mem::replace(&mut last, chunk)).await?;
    }
    request.end();
    sender.write_all(&last).await?;
    sender.flush().await?;
    Ok(again)
}

/// Passes half of an answer on, which promises more.
async fn truncate(
    sender: &mut BufReader<TcpStream>,
    mut s3: BufReader<TcpStream>,
    mut head: Head,
    request: &mut UnderWay<'_>,
) -> io::Result<bool> {
    let mut body = Vec::new();
    s3.read_to_end(&mut body).await?;
    head.set("connection", None);
    if body.is_empty() && !has_no_body(&head, request) {
        head.set("content-length", Some(&PROMISED.to_string()));
    }
    request.record.answered = Some(head.status());
    request.end();
    sender.write_all(&head.bytes()).await?;
    sender.write_all(&body[..body.len() / 2]).await?;
    sender.flush().await?;
    Ok(false)
}

/// Whether an answer has no body, whatever its head says of a length.
fn has_no_body(head: &Head, request: &UnderWay<'_>) -> bool {
    request.record.seen.method == "HEAD" || [204, 304].contains(&head.status())
}

/// Passes a body of `bytes` on. Answers whether all of it was: S3 may refuse before the end.
async fn send_body(
    sender: &mut BufReader<TcpStream>,
    s3: &mut TcpStream,
    bytes: u64,
    fault: &Fault,
) -> io::Result<bool> {
    let end = if *fault == Fault::ResetInBody { bytes / 2 } else { bytes };
    let (mut at, mut chunk, mut answering) = (0, vec![0; CHUNK], [0]);
    let (mut answers, mut s3) = s3.split();
    while at < end {
        let mut most = chunk.len().min(usize::try_from(end - at).unwrap());
        if let Fault::Slow(bytes_per_second) = fault {
            sleep(TICK).await;
            let tick = f64::from(*bytes_per_second) * TICK.as_secs_f64();
            most = most.min((tick as usize).max(1));
        }
        let read = tokio::select! {
            read = sender.read(&mut chunk[..most]) => read?,
            // Refused already, or hung up.
            _ = answers.peek(&mut answering) => return Ok(false),
        };
        if read == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        let middle = bytes / 2;
        if *fault == Fault::FlipBit && (at..at + read as u64).contains(&middle) {
            chunk[usize::try_from(middle - at).unwrap()] ^= 1;
        }
        at += read as u64;
        if s3.write_all(&chunk[..read]).await.is_err() {
            // It hung up, most likely with an answer.
            return Ok(false);
        }
    }
    Ok(at == bytes)
}

/// An answer of the proxy's own, as S3 words it.
async fn answer(
    sender: &mut BufReader<TcpStream>,
    request: &mut UnderWay<'_>,
    status: u16,
    code: &str,
    retry_after: Option<u32>,
) -> io::Result<bool> {
    let xml = format!(
        "<?xml version=\"1.0\" encoding=\"UTF-8\"?>\n<Error><Code>{code}</Code>\
         <Message>The test wants it so.</Message></Error>"
    );
    // Without a code it is not S3 who speaks.
    let xml = if code.is_empty() { "<html>The test wants it so.</html>".to_owned() } else { xml };
    write_answer(sender, request, status, retry_after, &xml).await
}

async fn write_answer(
    sender: &mut BufReader<TcpStream>,
    request: &mut UnderWay<'_>,
    status: u16,
    retry_after: Option<u32>,
    xml: &str,
) -> io::Result<bool> {
    let retry_after = retry_after.map(|seconds| format!("retry-after: {seconds}\r\n"));
    let head = format!(
        "HTTP/1.1 {status} By The Test\r\ncontent-type: application/xml\r\n{}\
         content-length: {}\r\n\r\n",
        retry_after.unwrap_or_default(),
        xml.len()
    );
    request.record.answered = Some(status);
    request.end();
    sender.write_all(head.as_bytes()).await?;
    if request.record.seen.method != "HEAD" {
        sender.write_all(xml.as_bytes()).await?;
    }
    sender.flush().await?;
    Ok(true)
}

/// What time it is, and so many seconds, as HTTP writes it.
fn date(seconds: i64) -> String {
    let then = jiff::Timestamp::now() + jiff::SignedDuration::from_secs(seconds);
    then.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string()
}

/// A TCP reset, not an orderly end: sent when the stream is dropped.
fn reset(sender: &BufReader<TcpStream>) -> io::Result<bool> {
    sender.get_ref().set_zero_linger()?;
    Ok(false)
}
