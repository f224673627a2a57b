//! As much of HTTP/1.1 as the programs here speak: messages with a length, on connections that stay.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;

use anyhow::{Context as _, Result, bail};

/// A request or a reply.
#[derive(Debug, Clone, Default)]
pub(crate) struct Message {
    /// The first line, without its end.
    pub(crate) start: String,
    /// Names in lower case.
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
}

impl Message {
    pub(crate) fn reply(status: u16, content_type: &str, body: impl Into<Vec<u8>>) -> Self {
        Self {
            // Nobody reads the reason.
            start: format!("HTTP/1.1 {status} -"),
            headers: vec![("content-type".into(), content_type.into())],
            body: body.into(),
        }
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str())
    }

    pub(crate) fn with(mut self, name: &str, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), value.into()));
        self
    }

    pub(crate) fn method(&self) -> &str {
        self.start.split(' ').next().unwrap_or_default()
    }

    pub(crate) fn path(&self) -> &str {
        self.start.split(' ').nth(1).unwrap_or_default()
    }

    pub(crate) fn status(&self) -> u16 {
        self.path().parse().unwrap_or_default()
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }
}

/// Reads one; nothing if the other side has closed the connection.
pub(crate) fn read(from: &mut BufReader<TcpStream>) -> Result<Option<Message>> {
    let Some(mut message) = read_head(from)? else { return Ok(None) };
    if let Some(coding) = message.header("transfer-encoding") {
        bail!("a body without a length ({coding})");
    }
    let length = message.header("content-length").map(str::parse).transpose()?;
    message.body = vec![0; length.unwrap_or(0)];
    from.read_exact(&mut message.body).context("the connection broke off in a body")?;
    Ok(Some(message))
}

fn read_head(from: &mut BufReader<TcpStream>) -> Result<Option<Message>> {
    let mut line = String::new();
    if from.read_line(&mut line)? == 0 {
        return Ok(None);
    }
    let mut message = Message { start: line.trim_end().to_owned(), ..Message::default() };
    loop {
        line.clear();
        if from.read_line(&mut line)? == 0 {
            bail!("the connection broke off in a header");
        }
        let Some((name, value)) = line.trim_end().split_once(':') else { break };
        message.headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
    }
    Ok(Some(message))
}

/// Writes one, with the length of its body.
pub(crate) fn write(mut to: &TcpStream, message: &Message) -> Result<()> {
    let mut head = format!("{}\r\n", message.start);
    // Whoever expects a "100 Continue" goes on after a second without it.
    let own = ["content-length", "transfer-encoding", "connection", "expect"];
    for (name, value) in &message.headers {
        if !own.contains(&name.as_str()) {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
    }
    head.push_str(&format!("content-length: {}\r\n\r\n", message.body.len()));
    let mut bytes = head.into_bytes();
    bytes.extend(&message.body);
    to.write_all(&bytes)?;
    Ok(())
}

/// Asks a server once.
pub(crate) fn ask(address: &str, request: &Message) -> Result<Message> {
    let stream = TcpStream::connect(address).with_context(|| format!("nobody at {address}"))?;
    stream.set_nodelay(true)?;
    write(&stream, request)?;
    let mut reader = BufReader::new(stream);
    // The answer to a HEAD tells the length of a body that it does not have: RFC 9110, 9.3.2.
    let reply = if request.method() == "HEAD" { read_head(&mut reader) } else { read(&mut reader) };
    reply?.with_context(|| format!("{address} said nothing"))
}
