//! Text to tree: the small part of YAML that the language is made of, everything else refused at its place.
//!
//! No aliases, anchors, tags, directives, merge keys, complex keys or second documents, no key twice, no bare word that
//! two readers could take for two things. Bounded in size and depth, without recursion.

use crate::Bundle;
use crate::ledger::Ledger;
use crate::scalar::{self, Bare};
use crate::show;
use crate::tree::{Data, Entry, Map, Node, Place};
use granit_parser::{ErrorKind, Event, Parser, ScalarStyle, Span};
use serde_json::Value;
use std::collections::HashMap;
use std::sync::Arc;

/// How deep lists and maps may stand in one another.
const DEPTH: usize = 16;

/// The most characters of a key: what a reader of YAML must look ahead for one is limited.
const KEY: usize = 512;

/// Read one file. Problems go to the ledger; `None` where nothing could be made of it.
pub(crate) fn parse(file: &str, bytes: &[u8], ledger: &mut Ledger) -> Option<Node> {
    let file: Arc<str> = file.into();
    if bytes.len() > Bundle::FILE_CAP {
        too_big(&file, bytes.len() as u64, ledger);
        return None;
    }
    let text = utf8(&file, bytes, ledger)?;
    let text = text.strip_prefix('\u{feff}').unwrap_or(text);
    if !clean(&file, text, ledger) {
        return None;
    }
    Builder { file, ledger, frames: vec![], root: None, alias_line: 0 }.build(text)
}

/// A file over the cap.
pub(crate) fn too_big(file: &str, bytes: u64, ledger: &mut Ledger) {
    let cap = Bundle::FILE_CAP / 1024;
    let message = format!("this file has {bytes} bytes, and {cap} KiB is the most");
    ledger.error("too-big", &Place::file(file), message, "split it, or take out what is no desired state");
}

fn utf8<'t>(file: &Arc<str>, bytes: &'t [u8], ledger: &mut Ledger) -> Option<&'t str> {
    let error = match std::str::from_utf8(bytes) {
        Ok(text) => return Some(text),
        Err(error) => error,
    };
    let good = &bytes[..error.valid_up_to()];
    let line = good.split(|byte| *byte == b'\n').count();
    let start = good.iter().rposition(|byte| *byte == b'\n').map_or(0, |index| index + 1);
    let column = String::from_utf8_lossy(&good[start..]).chars().count() + 1;
    let at = place(file, line, column, 1);
    let byte = bytes.get(error.valid_up_to()).copied().unwrap_or_default();
    let message = format!("this file is no UTF-8 text: byte 0x{byte:02x} cannot stand here");
    ledger.error("bad-encoding", &at, message, "save it as UTF-8; binary files belong below `files/`");
    None
}

/// No control characters, and none that reorder or hide text. One problem for a line.
fn clean(file: &Arc<str>, text: &str, ledger: &mut Ledger) -> bool {
    let mut good = true;
    for (index, line) in text.split('\n').enumerate() {
        let line = line.strip_suffix('\r').unwrap_or(line);
        let hidden = line.chars().enumerate().find(|(_, c)| *c != '\t' && show::is_hidden(*c));
        if let Some((column, c)) = hidden {
            good = false;
            let at = place(file, index + 1, column + 1, 1);
            let message = format!("the control character U+{:04X} cannot stand in a spec", u32::from(c));
            ledger.error("control-character", &at, message, "remove it: people who review do not see it");
        }
    }
    good
}

fn place(file: &Arc<str>, line: usize, column: usize, width: usize) -> Place {
    let small = |number: usize| u32::try_from(number).unwrap_or(u32::MAX);
    Place { file: file.clone(), line: small(line), column: small(column), width: small(width), path: None }
}

/// A list or a map that is not closed yet.
enum Frame {
    List { at: Place, items: Vec<Node> },
    Map { at: Place, map: Map, lines: HashMap<String, u32>, key: Option<Key> },
}

/// A key that waits for its value; without a name where it was refused.
struct Key {
    name: Option<String>,
    at: Place,
}

/// Nothing more can be made of this file; why is in the ledger.
struct Hopeless;

struct Builder<'l, 'b> {
    file: Arc<str>,
    ledger: &'l mut Ledger<'b>,
    frames: Vec<Frame>,
    root: Option<Node>,
    /// The last line in which an alias was complained of: once for a line is enough.
    alias_line: u32,
}

impl Builder<'_, '_> {
    fn build(mut self, text: &str) -> Option<Node> {
        let options = granit_parser::options! {
            disallow_directives: true,
            emit_unresolved_aliases: true,
            emit_anchor_events: true,
            emit_comments: false,
            strict_indentation: true,
            flow_nesting_limit: 4 * DEPTH,
            block_nesting_limit: 4 * DEPTH,
        };
        for event in Parser::new_from_str_with_options(text, options) {
            let taken = match event {
                Ok((event, span)) => self.take(&event, &span),
                Err(error) => {
                    let at = place(&self.file, error.marker().line(), error.marker().col() + 1, 1);
                    Err(self.refuse_yaml(&at, error.kind(), &error.info()))
                }
            };
            if taken.is_err() {
                return None;
            }
        }
        if self.root.as_ref().is_none_or(Node::is_null) {
            let at = Place::file(&self.file);
            self.ledger.error(
                "empty",
                &at,
                "this file says nothing",
                "write at least `version: 1`, or remove it",
            );
            return None;
        }
        self.root
    }

    /// A text that is no YAML.
    fn refuse_yaml(&mut self, at: &Place, kind: &ErrorKind, info: &str) -> Hopeless {
        if matches!(kind, ErrorKind::DirectiveDisallowed) {
            let help = "remove the line that starts with %";
            self.ledger.error("directive", at, "YAML directives are not part of the language", help);
            return Hopeless;
        }
        if info.contains("nesting") || info.contains("recursion") {
            return self.too_deep(at);
        }
        let tabs = info.contains("tab");
        let help = if tabs {
            "indent with blanks"
        } else {
            "look at the indentation, the colons and the quotes here and above"
        };
        self.ledger.error("yaml", at, format!("this is no YAML: {}", show::cut(info, 160)), help);
        Hopeless
    }

    fn too_deep(&mut self, at: &Place) -> Hopeless {
        let message = format!("this stands deeper than {DEPTH} lists and maps in one another");
        self.ledger.error("too-deep", at, message, "no section needs that");
        Hopeless
    }

    fn take(&mut self, event: &Event, span: &Span) -> Result<(), Hopeless> {
        let at = self.at(span);
        self.complain_of_properties(event, span);
        match event {
            Event::DocumentStart(..) if self.root.is_some() => {
                let help = "one document for a file: make another file of what follows";
                self.ledger.error("two-documents", &at, "a second document starts here", help);
                Err(Hopeless)
            }
            Event::Alias(_) | Event::UnresolvedAlias(_) => {
                if self.alias_line != at.line {
                    self.alias_line = at.line;
                    let help = "write out what it stands for, or make a profile and include it";
                    self.ledger.error("alias", &at, "aliases (`*name`) are not part of the language", help);
                }
                self.add(Node { place: at, data: Data::Bad });
                Ok(())
            }
            Event::Scalar(text, style, ..) => {
                // The parser says `~` for what is not written at all.
                let text = if span.is_empty() { "" } else { text };
                self.scalar(text, *style, at);
                Ok(())
            }
            Event::SequenceStart(..) => self.open(Frame::List { at, items: vec![] }),
            Event::MappingStart(..) => {
                self.open(Frame::Map { at, map: Map::default(), lines: HashMap::new(), key: None })
            }
            Event::SequenceEnd | Event::MappingEnd => {
                self.close();
                Ok(())
            }
            _ => Ok(()),
        }
    }

    fn at(&self, span: &Span) -> Place {
        let same_line = span.end.line() == span.start.line();
        let width = if same_line { span.end.col().saturating_sub(span.start.col()) } else { 1 };
        place(&self.file, span.start.line(), span.start.col() + 1, width.max(1))
    }

    /// Anchors and tags.
    fn complain_of_properties(&mut self, event: &Event, span: &Span) {
        if let Event::Anchor(..) = event {
            let help = "remove the `&name`; what several files need goes into a profile that they include";
            self.ledger.error(
                "anchor",
                &self.at(span),
                "anchors (`&name`) are not part of the language",
                help,
            );
        }
        if let Some(tag) = event.tag() {
            let message = format!("tags are not part of the language: {}", show::quoted(&tag.original()));
            let at = self.at(&span.tag_span().unwrap_or(*span));
            self.ledger.error("tag", &at, message, "remove it; quote the value where a text is meant");
        }
    }

    fn open(&mut self, frame: Frame) -> Result<(), Hopeless> {
        if self.frames.len() == DEPTH {
            let (Frame::List { at, .. } | Frame::Map { at, .. }) = &frame;
            return Err(self.too_deep(&at.clone()));
        }
        self.frames.push(frame);
        Ok(())
    }

    fn close(&mut self) {
        let node = match self.frames.pop() {
            Some(Frame::List { at, items }) => Node { place: at, data: Data::List(items) },
            Some(Frame::Map { at, map, .. }) => Node { place: at, data: Data::Map(map) },
            None => return,
        };
        self.add(node);
    }

    fn scalar(&mut self, text: &str, style: ScalarStyle, at: Place) {
        if let Some(Frame::Map { key: None, .. }) = self.frames.last() {
            self.key(text, style, &at);
            return;
        }
        let data = match style {
            ScalarStyle::Plain => match scalar::read(text) {
                Bare::Value(value) => Data::Scalar(value),
                Bare::Refused(why, help) => {
                    self.ledger.error("bare-word", &at, format!("{} {why}", show::quoted(text)), help);
                    Data::Bad
                }
            },
            _ => Data::Scalar(Value::String(text.to_owned())),
        };
        let data = if self.has_controls(text, &at) { Data::Bad } else { data };
        self.add(Node { place: at, data });
    }

    /// Escapes in double quotes can bring in what the text itself may not hold. Line ends and tabs are for the kinds to judge.
    fn has_controls(&mut self, text: &str, at: &Place) -> bool {
        let hidden = text.chars().find(|c| !matches!(c, '\n' | '\t') && show::is_hidden(*c));
        if let Some(c) = hidden {
            let message = format!("the control character U+{:04X} cannot stand in a spec", u32::from(c));
            self.ledger.error("control-character", at, message, "remove its escape");
        }
        hidden.is_some()
    }

    fn key(&mut self, text: &str, style: ScalarStyle, at: &Place) {
        let name = self.good_key(text, style, at).then(|| text.to_owned());
        let Some(Frame::Map { map, lines, key, .. }) = self.frames.last_mut() else {
            return;
        };
        map.poisoned |= name.is_none();
        let twice = name.as_ref().and_then(|name| lines.get(name)).copied();
        if let (None, Some(name)) = (&twice, &name) {
            lines.insert(name.clone(), at.line);
        }
        let name = if twice.is_some() { None } else { name };
        *key = Some(Key { name, at: at.clone() });
        if let Some(first) = twice {
            let message = format!("{} is said twice: in line {first} and here", show::quoted(text));
            self.ledger.error("duplicate-key", at, message, "keep one of the two");
        }
    }

    fn good_key(&mut self, text: &str, style: ScalarStyle, at: &Place) -> bool {
        let plain = style == ScalarStyle::Plain;
        if plain && text == "<<" {
            let help = "include a profile instead";
            self.ledger.error("merge-key", at, "merge keys (`<<`) are not part of the language", help);
            return false;
        }
        if text.is_empty() {
            self.ledger.error("empty-key", at, "a key is missing before the colon", "name it");
            return false;
        }
        if text.chars().count() > KEY {
            let message = format!("the key {} is longer than {KEY} characters", show::quoted(text));
            self.ledger.error("long-key", at, message, "no item has such a name");
            return false;
        }
        if text.chars().any(show::is_hidden) {
            let message = format!("the key {} holds control characters", show::quoted(text));
            self.ledger.error("control-character", at, message, "remove them");
            return false;
        }
        true
    }

    /// A node is complete: it belongs into what is open, or is the document.
    fn add(&mut self, node: Node) {
        let complex = match self.frames.last_mut() {
            None => {
                self.root = Some(node);
                return;
            }
            Some(Frame::List { items, .. }) => {
                items.push(node);
                return;
            }
            Some(Frame::Map { map, key, .. }) => match key.take() {
                Some(Key { name: Some(name), at }) => {
                    map.entries.push(Entry { key: name, at, node });
                    return;
                }
                Some(Key { name: None, .. }) => return,
                None => {
                    map.poisoned = true;
                    *key = Some(Key { name: None, at: node.place.clone() });
                    node
                }
            },
        };
        if !matches!(complex.data, Data::Bad) {
            let help = "a key is one word or one quoted text";
            self.ledger.error("complex-key", &complex.place, "a list or a map cannot be a key", help);
        }
    }
}
