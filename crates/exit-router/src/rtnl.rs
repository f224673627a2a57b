//! Messages of rtnetlink(7) as they go over the wire, and whom they are said to.
//!
//! netlink-packet-route's own type of all messages has every kind of interface, filter and tunnel in
//! it, and the linker can leave none out: 0.4 MB of a daemon that is to have three (measured). So
//! a message is bytes here, and each reading takes the attributes that it looks at.

use std::convert::Infallible;
use std::io;

use futures_util::StreamExt;
use netlink_packet_core::{
    Emitable, NLM_F_ACK, NLM_F_CREATE, NLM_F_DUMP, NLM_F_EXCL, NLM_F_REQUEST,
    NetlinkDeserializable, NetlinkHeader, NetlinkMessage, NetlinkPayload, NetlinkSerializable,
    NlasIterator,
};
use rtnetlink::proto::ConnectionHandle;
use rtnetlink::proto::sys::{AsyncSocket, SocketAddr, protocols::NETLINK_ROUTE};

/// Flags of a request that adds what is not there.
pub const ADD: u16 = NLM_F_REQUEST | NLM_F_ACK | NLM_F_CREATE | NLM_F_EXCL;
/// … of one that changes or deletes.
pub const CHANGE: u16 = NLM_F_REQUEST | NLM_F_ACK;

/// Types of messages (linux/rtnetlink.h).
#[allow(missing_docs, reason = "the header's own names")]
pub mod kind {
    pub const NEWLINK: u16 = 16;
    pub const DELLINK: u16 = 17;
    pub const GETLINK: u16 = 18;
    pub const SETLINK: u16 = 19;
    pub const NEWADDR: u16 = 20;
    pub const DELADDR: u16 = 21;
    pub const GETADDR: u16 = 22;
    pub const NEWROUTE: u16 = 24;
    pub const DELROUTE: u16 = 25;
    pub const GETROUTE: u16 = 26;
    pub const NEWRULE: u16 = 32;
    pub const DELRULE: u16 = 33;
    pub const GETRULE: u16 = 34;
    pub const NEWTFILTER: u16 = 44;
    pub const GETTFILTER: u16 = 46;
}

/// Attributes of links (linux/if_link.h).
#[allow(missing_docs, reason = "the header's own names")]
pub mod link {
    pub const IFNAME: u16 = 3;
    pub const MTU: u16 = 4;
    pub const LINKINFO: u16 = 18;
    /// Within LINKINFO: what the interface is.
    pub const INFO_KIND: u16 = 1;
    pub const GROUP: u16 = 27;
}

/// Attributes of routes (linux/rtnetlink.h).
#[allow(missing_docs, reason = "the header's own names")]
pub mod route {
    pub const DST: u16 = 1;
    pub const OIF: u16 = 4;
    pub const GATEWAY: u16 = 5;
    pub const PRIORITY: u16 = 6;
    pub const MULTIPATH: u16 = 9;
    pub const TABLE: u16 = 15;
    pub const VIA: u16 = 18;
}

/// Attributes of filters (linux/rtnetlink.h, linux/pkt_cls.h).
#[allow(missing_docs, reason = "the header's own names")]
pub mod filter {
    pub const OPTIONS: u16 = 2;
    /// Within the options of u32.
    pub const U32_SELECTOR: u16 = 5;
    pub const U32_INDEV: u16 = 8;
}

/// A message without netlink's own header.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// Its type.
    pub kind: u16,
    /// The header of its family of messages, and its attributes.
    pub body: Vec<u8>,
}

impl Message {
    /// One without attributes, of which `header` may also be a whole message.
    pub fn new(kind: u16, header: &impl Emitable) -> Self {
        let mut body = vec![0; header.buffer_len()];
        header.emit(&mut body);
        Self { kind, body }
    }

    /// The same with an attribute more.
    #[must_use]
    pub fn with(mut self, attribute: u16, value: &[u8]) -> Self {
        push(&mut self.body, attribute, value);
        self
    }

    /// Its attributes, behind a header of so many bytes.
    pub fn attributes(&self, header: usize) -> impl Iterator<Item = (u16, &[u8])> {
        attributes(self.body.get(header..).unwrap_or_default())
    }
}

/// An attribute by itself, for one that it stands within (netlink(7), NLA_ALIGN).
pub fn attribute(kind: u16, value: &[u8]) -> Vec<u8> {
    let mut bytes = Vec::new();
    push(&mut bytes, kind, value);
    bytes
}

fn push(bytes: &mut Vec<u8>, kind: u16, value: &[u8]) {
    let length = u16::try_from(4 + value.len()).unwrap_or(u16::MAX);
    bytes.extend_from_slice(&length.to_ne_bytes());
    bytes.extend_from_slice(&kind.to_ne_bytes());
    bytes.extend_from_slice(value);
    bytes.resize(bytes.len().next_multiple_of(4), 0);
}

/// The attributes in these bytes; behind one that is broken there are no more.
pub fn attributes(bytes: &[u8]) -> impl Iterator<Item = (u16, &[u8])> {
    let whole = NlasIterator::new(bytes).map_while(Result::ok);
    whole.map(|attribute| {
        let (kind, length) = (attribute.kind(), attribute.value_length());
        (kind, attribute.into_inner().get(4..4 + length).unwrap_or_default())
    })
}

/// A number of the machine's own byte order; 0 where the bytes are none.
pub fn number(value: &[u8]) -> u32 {
    value.try_into().map_or(0, u32::from_ne_bytes)
}

/// A text that ends with its first NUL.
pub fn text(value: &[u8]) -> String {
    let end = value.iter().position(|byte| *byte == 0).unwrap_or(value.len());
    String::from_utf8_lossy(value.get(..end).unwrap_or_default()).into_owned()
}

impl NetlinkSerializable for Message {
    fn message_type(&self) -> u16 {
        self.kind
    }

    fn buffer_len(&self) -> usize {
        self.body.len()
    }

    fn serialize(&self, buffer: &mut [u8]) {
        buffer.copy_from_slice(&self.body);
    }
}

impl NetlinkDeserializable for Message {
    type Error = Infallible;

    fn deserialize(header: &NetlinkHeader, payload: &[u8]) -> Result<Self, Infallible> {
        Ok(Self { kind: header.message_type, body: payload.to_vec() })
    }
}

impl From<Message> for NetlinkPayload<Message> {
    fn from(message: Message) -> Self {
        Self::InnerMessage(message)
    }
}

/// A connection to the kernel; its other end is a task of the runtime.
#[derive(Clone, Debug)]
pub struct Handle(ConnectionHandle<Message>);

impl Handle {
    /// A new one.
    ///
    /// # Errors
    /// Those of socket(2).
    pub fn connect() -> io::Result<Self> {
        let (mut connection, handle, _) = rtnetlink::proto::new_connection(NETLINK_ROUTE)?;
        // The kernel then filters a dump by table by itself, so that 10,000 routes of main's are not
        // copied to be thrown away (rtnetlink(7), NETLINK_GET_STRICT_CHK).
        connection.socket_mut().socket_mut().set_netlink_get_strict_chk(true)?;
        tokio::spawn(connection);
        Ok(Self(handle))
    }

    /// All that the kernel has of something.
    ///
    /// # Errors
    /// For people: `what`, and why it cannot be had.
    pub async fn dump(&self, what: &str, request: Message) -> Result<Vec<Message>, String> {
        let failed = |why: String| format!("{what}: {why}");
        let mut messages = Vec::new();
        self.ask(request, NLM_F_REQUEST | NLM_F_DUMP, |payload| match payload {
            NetlinkPayload::InnerMessage(message) => {
                messages.push(message);
                Ok(())
            }
            NetlinkPayload::Error(error) => Err(error.to_io().to_string()),
            NetlinkPayload::Overrun(_) => Err("the kernel lost a part".to_owned()),
            _ => Ok(()),
        })
        .await
        .map_err(failed)?;
        Ok(messages)
    }

    /// Has something done. `done`: numbers of errno(3) that say that it was so already.
    ///
    /// # Errors
    /// For people: `what`, and what the kernel says.
    pub async fn request(
        &self,
        what: &str,
        request: Message,
        flags: u16,
        done: &[i32],
    ) -> Result<(), String> {
        self.ask(request, flags, |payload| match payload {
            NetlinkPayload::Error(error)
                if error.raw_code() != 0 && !done.contains(&-error.raw_code()) =>
            {
                Err(error.to_io().to_string())
            }
            _ => Ok(()),
        })
        .await
        .map_err(|why| format!("{what}: {why}"))
    }

    async fn ask(
        &self,
        request: Message,
        flags: u16,
        mut take: impl FnMut(NetlinkPayload<Message>) -> Result<(), String>,
    ) -> Result<(), String> {
        let mut message = NetlinkMessage::from(request);
        message.header.flags = flags;
        let kernel = SocketAddr::new(0, 0);
        let mut answers = self.0.request(message, kernel).map_err(|error| error.to_string())?;
        while let Some(answer) = answers.next().await {
            take(answer.payload)?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]

    use netlink_packet_route::link::LinkHeader;

    use super::*;

    #[test]
    fn attributes_are_read_as_they_were_written() {
        let nested = attribute(link::INFO_KIND, b"wireguard");
        let message = Message::new(kind::NEWLINK, &LinkHeader::default())
            .with(link::IFNAME, b"vpn-acme\0")
            .with(link::LINKINFO, &nested)
            .with(link::MTU, &1420_u32.to_ne_bytes());
        assert_eq!(message.body.len() % 4, 0);
        let read: Vec<_> = message.attributes(16).collect();
        let [(link::IFNAME, name), (link::LINKINFO, info), (link::MTU, mtu)] = read[..] else {
            panic!("{read:?}");
        };
        assert_eq!((text(name).as_str(), number(mtu)), ("vpn-acme", 1420));
        assert_eq!(attributes(info).collect::<Vec<_>>(), [(link::INFO_KIND, &b"wireguard"[..])]);
    }

    #[test]
    fn what_is_broken_is_not_read() {
        for bytes in [&[][..], &[1], &[3, 0, 1, 0], &[200, 0, 1, 0, 7]] {
            assert_eq!(attributes(bytes).count(), 0, "{bytes:?}");
        }
        assert_eq!((number(&[1, 2]), text(b"a\xffb\0c").as_str()), (0, "a\u{fffd}b"));
    }
}
