//! Replies as they are on the wire, so that two can be compared to the letter, but for what cannot be equal.

/// One reply or push.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wire {
    /// With the sign that it begins with.
    Line(String),
    Text(char, String),
    List(char, Vec<Wire>),
}

impl Wire {
    pub fn is_push(&self) -> bool {
        matches!(self, Self::List('>', _))
    }

    /// The first that is whole, and its length.
    pub fn parse(bytes: &[u8]) -> Option<(Self, usize)> {
        let end = bytes.windows(2).position(|two| two == b"\r\n")?;
        let line = String::from_utf8_lossy(&bytes[..end]).into_owned();
        let mut at = end + 2;
        let kind = line.chars().next()?;
        let length = line[1..].parse::<usize>();
        match (kind, length) {
            ('$' | '=', Ok(length)) => {
                let text = bytes.get(at..at + length)?;
                bytes.get(at + length..at + length + 2)?;
                Some((Self::Text(kind, String::from_utf8_lossy(text).into_owned()), at + length + 2))
            }
            ('*' | '%' | '>', Ok(count)) => {
                let mut items = Vec::new();
                for _ in 0..if kind == '%' { 2 * count } else { count } {
                    let (item, length) = Self::parse(&bytes[at..])?;
                    items.push(item);
                    at += length;
                }
                Some((Self::List(kind, items), at))
            }
            _ => Some((Self::Line(line), at)),
        }
    }

    /// All that is whole, taken out.
    pub fn take(bytes: &mut Vec<u8>) -> Vec<Self> {
        let mut found = Vec::new();
        while let Some((one, length)) = Self::parse(bytes) {
            bytes.drain(..length);
            found.push(one);
        }
        found
    }

    fn number(&self) -> Option<i64> {
        match self {
            Self::Line(line) => line.strip_prefix(':')?.parse().ok(),
            _ => None,
        }
    }

    /// Whether this and what the real one said are the same, but for times and what only a real one has.
    pub fn equals(&self, real: &Self) -> bool {
        if let (Some(mine), Some(theirs)) = (self.number(), real.number()) {
            // A ttl, which are all long here.
            return mine == theirs || (mine.min(theirs) > 50_000 && mine.abs_diff(theirs) < 5_000);
        }
        match (self, real) {
            (Self::List(mine_kind, mine), Self::List(kind, theirs)) => {
                if ["master", "slave"].iter().any(|role| first_is(mine, role) && first_is(theirs, role)) {
                    return true;
                }
                mine_kind == kind
                    && mine.len() == theirs.len()
                    && mine.iter().zip(theirs).enumerate().all(|(at, (mine_item, their_item))| {
                        let is_version = at > 0 && mine[at - 1] == Self::Text('$', "version".into());
                        is_version || mine_item.equals(their_item)
                    })
            }
            (Self::Text(mine_kind, mine), Self::Text(kind, theirs))
                if theirs.starts_with("id=") || theirs.starts_with("txt:id=") =>
            {
                mine_kind == kind && described(mine) == described(theirs)
            }
            _ => self == real,
        }
    }
}

/// ROLE: offsets count bytes in redis and changes here, and the master's address is the caller's matter.
fn first_is(items: &[Wire], word: &str) -> bool {
    matches!(items.first(), Some(Wire::Text(_, text)) if text == word)
}

/// The fields of CLIENT INFO that both have.
fn described(text: &str) -> Vec<&str> {
    const FIELDS: [&str; 11] =
        ["id", "addr", "laddr", "name", "flags", "db", "user", "redir", "resp", "lib-name", "lib-ver"];
    text.trim_start_matches("txt:")
        .trim_end()
        .split(' ')
        .filter(|field| FIELDS.contains(&field.split('=').next().unwrap()))
        .collect()
}
