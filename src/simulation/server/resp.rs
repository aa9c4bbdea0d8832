//! The wire format, RESP2 and RESP3, from the server's side: requests out of bytes, replies into bytes.

/// A reply, or a push.
#[derive(Clone, Debug, PartialEq)]
pub enum Reply {
    Simple(String),
    /// With its code, without the leading `-`.
    Error(String),
    Int(i64),
    Bulk(Vec<u8>),
    /// No string.
    Nil,
    /// No list, which RESP2 writes in another way.
    NilArray,
    Array(Vec<Reply>),
    Map(Vec<(Reply, Reply)>),
    /// Text for people. RESP2 has it as a string.
    Verbatim(String),
    /// What nobody asked for; RESP3 only.
    Push(Vec<Reply>),
}

impl Reply {
    pub fn ok() -> Self {
        Self::Simple("OK".into())
    }

    pub fn error(text: impl Into<String>) -> Self {
        Self::Error(text.into())
    }

    pub fn bulk(text: impl AsRef<[u8]>) -> Self {
        Self::Bulk(text.as_ref().to_vec())
    }

    /// As bytes behind those that are there.
    pub fn write(&self, out: &mut Vec<u8>, resp3: bool) {
        match self {
            Self::Simple(text) => line(out, '+', text),
            Self::Error(text) => line(out, '-', text),
            Self::Int(number) => line(out, ':', number),
            Self::Bulk(bytes) => bulk(out, bytes),
            Self::Nil | Self::NilArray if resp3 => out.extend(b"_\r\n"),
            Self::Nil => out.extend(b"$-1\r\n"),
            Self::NilArray => out.extend(b"*-1\r\n"),
            Self::Array(items) => {
                line(out, '*', items.len());
                for item in items {
                    item.write(out, resp3);
                }
            }
            Self::Push(items) => {
                line(out, '>', items.len());
                for item in items {
                    item.write(out, resp3);
                }
            }
            Self::Map(fields) => {
                if resp3 {
                    line(out, '%', fields.len());
                } else {
                    line(out, '*', 2 * fields.len());
                }
                for (name, value) in fields {
                    name.write(out, resp3);
                    value.write(out, resp3);
                }
            }
            Self::Verbatim(text) if resp3 => {
                line(out, '=', text.len() + 4);
                out.extend(b"txt:");
                out.extend(text.as_bytes());
                out.extend(b"\r\n");
            }
            Self::Verbatim(text) => bulk(out, text.as_bytes()),
        }
    }
}

fn line(out: &mut Vec<u8>, kind: char, rest: impl std::fmt::Display) {
    out.extend(format!("{kind}{rest}\r\n").as_bytes());
}

fn bulk(out: &mut Vec<u8>, bytes: &[u8]) {
    line(out, '$', bytes.len());
    out.extend(bytes);
    out.extend(b"\r\n");
}

/// What stands first in what has come.
pub enum Request {
    /// So many bytes were a command.
    Command(Vec<Vec<u8>>, usize),
    /// The rest has not come yet.
    Partial,
    /// No request; redis hangs up after this error.
    Broken(&'static str),
}

/// Requests are arrays of strings; inline commands are not known here.
pub fn parse(input: &[u8]) -> Request {
    let Some((count, mut at)) = number_after(input, b'*', 0) else {
        return match input.first() {
            None | Some(b'*') => Request::Partial,
            Some(_) => Request::Broken("ERR Protocol error: the simulation knows no inline commands"),
        };
    };
    let mut words = Vec::new();
    for _ in 0..count {
        let Some((length, start)) = number_after(input, b'$', at) else {
            return match input.get(at) {
                None | Some(b'$') => Request::Partial,
                Some(_) => Request::Broken("ERR Protocol error: expected '$'"),
            };
        };
        let end = start + usize::try_from(length).unwrap_or_default();
        if input.len() < end + 2 {
            return Request::Partial;
        }
        words.push(input[start..end].to_vec());
        at = end + 2;
    }
    Request::Command(words, at)
}

/// The number in a line that begins at `at`, and where the next one begins.
fn number_after(input: &[u8], kind: u8, at: usize) -> Option<(i64, usize)> {
    let rest = input.get(at..)?;
    let end = rest.windows(2).position(|two| two == b"\r\n")?;
    if rest.first() != Some(&kind) {
        return None;
    }
    let number = std::str::from_utf8(&rest[1..end]).ok()?.parse().ok()?;
    Some((number, at + end + 2))
}

/// A number as redis reads one out of a word: nothing around it, no leading zeros, no plus.
pub fn integer(word: &[u8]) -> Option<i64> {
    let text = std::str::from_utf8(word).ok()?;
    let number: i64 = text.parse().ok()?;
    (number.to_string() == text).then_some(number)
}

/// A word as text, in lower case, to compare names with.
pub fn lower(word: &[u8]) -> String {
    String::from_utf8_lossy(word).to_ascii_lowercase()
}
