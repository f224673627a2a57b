//! One connection: messages in, one after the other, and an answer to each.
//!
//! zlink's own server, as of 0.8, closes a connection at a call that it cannot read: one with
//! parameters to a method that is not there, or without those that a method wants. And a method
//! of a certain name, a placeholder of the code that its macro makes, ends the whole process. So
//! the calls are looked at here before they reach that code.

use std::borrow::Cow;
use std::io;
use std::os::fd::AsFd;
use std::rc::Rc;

use serde::Deserialize;
use tokio::net::UnixStream;
use tokio::time::error::Elapsed;
use tokio::time::timeout;
use zlink::connection::PassedCredentials;
use zlink::connection::socket::{self, ReadResult};
use zlink::service::MethodReply;
use zlink::varlink_service::Error as Refusal;
use zlink::{Call, Connection, Reply, Service};

use super::{Caller, Interface, Limits};

/// Answers the calls of one client until it hangs up.
///
/// # Errors
/// The client was too slow, or what it sent is no Varlink.
pub(super) async fn converse<S: Service<Stream>>(
    socket: UnixStream,
    caller: Caller,
    mut service: S,
    interface: Interface,
    limits: Limits,
) -> zlink::Result<()> {
    let socket = Rc::new(socket);
    let mut connection = Connection::new(Stream { socket: Rc::clone(&socket), caller, limits });
    let mut incoming = Incoming { socket, limits, bytes: Vec::new() };
    while let Some(message) = incoming.message().await? {
        let header: Header<'_> = serde_json::from_slice(&message)?;
        let call = match interface.call::<S::MethodCall<'_>>(&header, &message) {
            Ok(call) => call,
            Err(_) if header.oneway => continue,
            Err(refusal) => {
                connection.send_error(&refusal, Vec::new()).await?;
                continue;
            }
        };
        let (reply, descriptors) = service.handle(&call, &mut connection, Vec::new()).await;
        match reply {
            MethodReply::Single(_) | MethodReply::Error(_) if call.oneway() => {}
            MethodReply::Single(parameters) => {
                let reply = Reply::new(parameters).set_continues(Some(false));
                connection.send_reply(&reply, descriptors).await?;
            }
            MethodReply::Error(error) => connection.send_error(&error, descriptors).await?,
            // No method of ours has a stream of replies or an upgrade.
            _ => return Err(io::Error::from(io::ErrorKind::Unsupported).into()),
        }
    }
    Ok(())
}

/// What every call has.
#[derive(Deserialize)]
struct Header<'a> {
    #[serde(borrow)]
    method: Cow<'a, str>,
    /// No answer is wanted, not even to what goes wrong.
    #[serde(default)]
    oneway: bool,
}

impl Interface {
    /// The call that a message makes, or why it makes none.
    fn call<'m, M: Deserialize<'m>>(
        self,
        header: &Header<'m>,
        message: &'m [u8],
    ) -> Result<Call<M>, Refusal<'m>> {
        let method = header.method.clone();
        let Some((interface, name)) = method.rsplit_once('.') else {
            return Err(Refusal::MethodNotFound { method });
        };
        let known = match interface {
            "org.varlink.service" => &["GetInfo", "GetInterfaceDescription"],
            _ if interface == self.name => self.methods,
            _ => {
                return Err(Refusal::InterfaceNotFound { interface: interface.to_owned().into() });
            }
        };
        if !known.contains(&name) {
            return Err(Refusal::MethodNotFound { method });
        }
        // serde's words for what is wrong with them are lost in the type that zlink's macro makes.
        serde_json::from_slice(message)
            .map_err(|_| Refusal::InvalidParameter { parameter: "parameters".into() })
    }
}

/// The client's messages. The kernel closes descriptors that are sent along with plain bytes.
struct Incoming {
    socket: Rc<UnixStream>,
    limits: Limits,
    /// Read, and not yet given out.
    bytes: Vec<u8>,
}

impl Incoming {
    /// The next one, without the NUL that ends it; None: the client has hung up.
    async fn message(&mut self) -> zlink::Result<Option<Vec<u8>>> {
        let mut searched = 0;
        loop {
            let unsearched = self.bytes.get(searched..).unwrap_or_default();
            if let Some(end) = unsearched.iter().position(|byte| *byte == 0) {
                let rest = self.bytes.split_off(searched + end + 1);
                let mut message = std::mem::replace(&mut self.bytes, rest);
                message.pop();
                return Ok(Some(message));
            }
            searched = self.bytes.len();
            if searched > self.limits.message {
                return Err(zlink::Error::BufferOverflow);
            }
            if timeout(self.limits.idle, self.read()).await.map_err(too_late)?? == 0 {
                return Ok(None);
            }
        }
    }

    /// Waits for bytes and takes what is there, up to a page.
    async fn read(&mut self) -> io::Result<usize> {
        let mut page = [0; 4096];
        loop {
            self.socket.readable().await?;
            match self.socket.try_read(&mut page) {
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
                Err(error) => return Err(error),
                Ok(count) => {
                    self.bytes.extend_from_slice(page.get(..count).unwrap_or_default());
                    return Ok(count);
                }
            }
        }
    }
}

/// A connected socket with limits. A daemon's service is implemented for it.
#[derive(Debug)]
pub struct Stream {
    socket: Rc<UnixStream>,
    caller: Caller,
    limits: Limits,
}

impl socket::Socket for Stream {
    type ReadHalf = ReadHalf;
    type WriteHalf = WriteHalf;

    fn split(self) -> (ReadHalf, WriteHalf) {
        let Self { socket, caller, limits } = self;
        (ReadHalf { caller }, WriteHalf { socket, limits })
    }
}

/// Who is at the other end. The messages are read before zlink sees them.
#[derive(Debug)]
pub struct ReadHalf {
    caller: Caller,
}

impl socket::ReadHalf for ReadHalf {
    async fn read(&mut self, _buffer: &mut [u8]) -> zlink::Result<ReadResult> {
        Err(io::Error::from(io::ErrorKind::Unsupported).into())
    }
}

impl AsRef<Caller> for ReadHalf {
    fn as_ref(&self) -> &Caller {
        &self.caller
    }
}

/// The half that writes. It sends no descriptors.
#[derive(Debug)]
pub struct WriteHalf {
    socket: Rc<UnixStream>,
    limits: Limits,
}

impl socket::WriteHalf for WriteHalf {
    async fn write(
        &mut self,
        bytes: &[u8],
        _fds: &[impl AsFd],
        _credentials: Option<&PassedCredentials>,
    ) -> zlink::Result<()> {
        timeout(self.limits.unread, write_all(&self.socket, bytes)).await.map_err(too_late)??;
        Ok(())
    }
}

async fn write_all(socket: &UnixStream, mut bytes: &[u8]) -> io::Result<()> {
    while !bytes.is_empty() {
        socket.writable().await?;
        match socket.try_write(bytes) {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => {}
            Err(error) => return Err(error),
            Ok(count) => bytes = bytes.get(count..).unwrap_or_default(),
        }
    }
    Ok(())
}

fn too_late(_: Elapsed) -> zlink::Error {
    io::Error::from(io::ErrorKind::TimedOut).into()
}
