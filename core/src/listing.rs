//! The listing of a NAR, `<hash>.ls`: JSON of version 1, with the same bytes as Nix 2.26 and
//! 2.34 write (2.8 orders the keys of a file differently).

use std::collections::BTreeMap;

/// One file system object in a NAR.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Node {
    /// A directory and what is in it, by name.
    Directory(Directory),
    /// A regular file.
    Regular(Regular),
    /// A symbolic link.
    Symlink(Symlink),
}

/// See [`Node::Directory`].
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Directory {
    /// Names are UTF-8: JSON has no other.
    pub entries: BTreeMap<String, Node>,
}

/// See [`Node::Regular`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Regular {
    /// Whether it may be executed.
    pub executable: bool,
    /// Where in the uncompressed NAR its contents begin, in bytes.
    pub nar_offset: u64,
    /// Bytes of its contents.
    pub size: u64,
}

/// See [`Node::Symlink`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Symlink {
    /// Where it leads, as it stands in the file system.
    pub target: String,
}

impl Node {
    /// The whole `.ls` file.
    #[must_use]
    pub fn to_json(&self) -> String {
        let mut json = String::from(r#"{"root":"#);
        self.write(&mut json);
        json.push_str(r#","version":1}"#);
        json
    }

    // By hand, since Nix sorts "type" among the other keys, and serde would put it first.
    fn write(&self, json: &mut String) {
        match self {
            Self::Directory(directory) => {
                json.push_str(r#"{"entries":{"#);
                for (n, (name, node)) in directory.entries.iter().enumerate() {
                    if n > 0 {
                        json.push(',');
                    }
                    json.push_str(&quoted(name));
                    json.push(':');
                    node.write(json);
                }
                json.push_str(r#"},"type":"directory"}"#);
            }
            Self::Regular(regular) => {
                json.push('{');
                if regular.executable {
                    json.push_str(r#""executable":true,"#);
                }
                let (offset, size) = (regular.nar_offset, regular.size);
                json.push_str(&format!(r#""narOffset":{offset},"size":{size},"type":"regular"}}"#));
            }
            Self::Symlink(symlink) => {
                json.push_str(r#"{"target":"#);
                json.push_str(&quoted(&symlink.target));
                json.push_str(r#","type":"symlink"}"#);
            }
        }
    }
}

fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_listing_is_sorted_and_quoted_as_nix_does_it() {
        let file = Node::Regular(Regular { executable: true, nar_offset: 400, size: 3 });
        let link = Node::Symlink(Symlink { target: "a\"b\n\u{1}ä".to_owned() });
        let empty = Node::Regular(Regular { executable: false, nar_offset: 0, size: 0 });
        let entries = [("b", file), ("a", link), ("B", empty)];
        let root = Node::Directory(Directory {
            entries: entries.into_iter().map(|(name, node)| (name.to_owned(), node)).collect(),
        });
        assert_eq!(
            root.to_json(),
            concat!(
                r#"{"root":{"entries":{"B":{"narOffset":0,"size":0,"type":"regular"},"#,
                r#""a":{"target":"a\"b\n\u0001ä","type":"symlink"},"#,
                r#""b":{"executable":true,"narOffset":400,"size":3,"type":"regular"}},"#,
                r#""type":"directory"},"version":1}"#
            )
        );
    }
}
