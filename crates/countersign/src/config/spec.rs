//! The text of sockets and modules: `ADDRESS,key=value,...` and `NAME(option=value, ...)`.
//!
//! The documented form of a module is `file(filename="/etc/pw", prompt=PIN)`. Xpra's own forms are
//! read too: `file:filename=/etc/pw:prompt=PIN` and `file,filename=/etc/pw`. What Xpra drops in
//! silence (W30: an item without `=`, an unknown key, a comment) is an error here, because each of
//! them leaves a socket open in Xpra. Errors tell the position and never repeat a value: what
//! stands where a key is expected may be the tail of a password with a comma in it (W11, S-88).
//!
//! [`super::layers`] and [`super::socket`] call this; every function reads its text once.

use std::{borrow::Cow, fmt};

use zeroize::Zeroizing;

use super::{backends, kind::SOCKET_OPTIONS};
use crate::{
    error::{ConfigError, nearest},
    modules::{COMMON_OPTIONS, Module, Options, Registry},
};

/// A socket as it was written: its address, its modules and its own options.
///
/// Equality compares text with text, both the operator's own.
#[derive(Clone, PartialEq, Eq)]
pub struct SocketSpec {
    address: String,
    auth: Vec<ModuleSpec>,
    settings: Vec<(&'static str, Zeroizing<String>)>,
}

impl SocketSpec {
    /// Reads the value of `--bind`, `--bind-tcp`, `--bind-ssl` and the like.
    ///
    /// # Errors
    /// What the module's description says, with the position counted in characters from 1.
    pub fn parse(text: &str, registry: &Registry) -> Result<Self, ConfigError> {
        socket(Piece::whole(text), registry).map_err(|fault| fault.told_of("the socket", text))
    }

    /// The address, unquoted and not judged yet.
    pub fn address(&self) -> &str {
        &self.address
    }

    /// The modules of its chain in order.
    pub fn auth(&self) -> &[ModuleSpec] {
        &self.auth
    }

    /// Adds a module at the end of its chain.
    pub fn push_auth(&mut self, module: ModuleSpec) {
        self.auth.push(module);
    }

    /// Sets one of [`SOCKET_OPTIONS`] but `auth`.
    ///
    /// # Errors
    /// There is none of that name, or it is set already.
    pub fn set(&mut self, key: &str, value: &str) -> Result<(), ConfigError> {
        let names = || SOCKET_OPTIONS.iter().map(|option| option.spec.name).filter(|name| *name != "auth");
        let Some(name) = names().find(|name| *name == canonical(key)) else {
            return Err(unknown(Piece::whole(key), names()).told_of("the socket", key));
        };
        if self.settings.iter().any(|(other, _)| *other == name) {
            return Err(ConfigError::new(format!("option {name}"), "it is given twice", "write it once"));
        }
        self.settings.push((name, Zeroizing::new(value.to_owned())));
        Ok(())
    }

    /// Its own options, as [`Options`] of `owner`.
    pub fn settings(&self, owner: &str) -> Options {
        Options::new(owner, self.settings.iter().map(|(key, value)| ((*key).to_owned(), value.to_string())))
    }

    /// The keys of its own options.
    pub fn keys(&self) -> impl Iterator<Item = &'static str> {
        self.settings.iter().map(|(key, _)| *key)
    }

    /// The canonical text, every value included. It holds secrets: never log it.
    pub fn expose(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(quoted(&self.address));
        // Options before modules: behind one, a key that both know would be ambiguous.
        for (key, value) in &self.settings {
            text.push_str(&format!(",{key}={}", *Zeroizing::new(quoted(value))));
        }
        for module in &self.auth {
            text.push_str(",auth=");
            text.push_str(&module.expose());
        }
        text
    }
}

/// The canonical text with `<set>` for the value of every option of a module.
impl fmt::Display for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.address)?;
        for (key, value) in &self.settings {
            write!(f, ",{key}={}", masked(key, value))?;
        }
        self.auth.iter().try_for_each(|module| write!(f, ",auth={module}"))
    }
}

/// What may be shown of a socket's option (S-88).
pub(super) fn masked<'a>(key: &str, value: &'a str) -> Cow<'a, str> {
    match key {
        // A backend may be a command with a password among its words.
        "backend" => backends::masked(value),
        "keydata" => "<set>".into(),
        _ => value.into(),
    }
}

impl fmt::Debug for SocketSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "SocketSpec({self})")
    }
}

/// A module as it was written. Its name and the keys of its options exist; nothing else is judged.
#[derive(Clone, PartialEq, Eq)]
pub struct ModuleSpec {
    name: &'static str,
    options: Vec<(String, Zeroizing<String>)>,
}

impl ModuleSpec {
    /// Reads the value of `--auth` or `--tcp-auth`, or an entry of `auth = [...]`: any form that
    /// `auth=` has on a socket, and `NAME,option=value`.
    ///
    /// # Errors
    /// As [`SocketSpec::parse`].
    pub fn parse(text: &str, registry: &Registry) -> Result<Self, ConfigError> {
        let read = || {
            let mut items = items(Piece::whole(text))?.into_iter();
            let (mut spec, known) = module(items.next().unwrap_or_else(|| Piece::whole("")), registry)?;
            for item in items {
                spec.options.push(option(item, known)?);
            }
            Ok(spec)
        };
        read().map_err(|fault: Fault| fault.told_of("auth", text))
    }

    /// The module's own name, whichever alias was written.
    pub fn name(&self) -> &'static str {
        self.name
    }

    /// The options in order. The values may be secret.
    pub fn options(&self) -> impl Iterator<Item = (&str, &str)> {
        self.options.iter().map(|(key, value)| (key.as_str(), value.as_str()))
    }

    /// The options, for [`Registry::link`].
    pub fn to_options(&self) -> Options {
        Options::new(self.name, self.options().map(|(key, value)| (key.to_owned(), value.to_owned())))
    }

    /// The canonical text, every value included. It holds secrets: never log it.
    pub fn expose(&self) -> Zeroizing<String> {
        self.text(|value| Zeroizing::new(quoted(value)))
    }

    fn text(&self, show: impl Fn(&str) -> Zeroizing<String>) -> Zeroizing<String> {
        let mut text = Zeroizing::new(self.name.to_owned());
        for (position, (key, value)) in self.options().enumerate() {
            text.push_str(if position == 0 { "(" } else { ", " });
            text.push_str(key);
            text.push('=');
            text.push_str(&show(value));
        }
        text.push_str(if self.options.is_empty() { "" } else { ")" });
        text
    }
}

/// The canonical text with `<set>` for every value.
impl fmt::Display for ModuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text(|_| Zeroizing::new("<set>".to_owned())))
    }
}

impl fmt::Debug for ModuleSpec {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "ModuleSpec({self})")
    }
}

/// A part of the text, and where it starts in bytes.
#[derive(Clone, Copy)]
struct Piece<'a> {
    text: &'a str,
    at: usize,
}

impl<'a> Piece<'a> {
    fn whole(text: &'a str) -> Self {
        Self { text, at: 0 }
    }

    /// From byte `from` to byte `to` of this piece; nothing where that is no part of it.
    fn part(self, from: usize, to: usize) -> Self {
        Self { text: self.text.get(from..to).unwrap_or_default(), at: self.at + from }
    }

    fn from(self, from: usize) -> Self {
        self.part(from, self.text.len())
    }

    fn trim(self) -> Self {
        let from = self.text.len() - self.text.trim_start().len();
        self.part(from, from + self.text.trim().len())
    }

    fn fault(self, why: impl Into<Cow<'static, str>>, fix: impl Into<Cow<'static, str>>) -> Fault {
        Fault { at: self.at, why: why.into(), fix: fix.into() }
    }
}

/// What is wrong, at which byte.
struct Fault {
    at: usize,
    why: Cow<'static, str>,
    fix: Cow<'static, str>,
}

impl Fault {
    fn told_of(self, what: &'static str, text: &str) -> ConfigError {
        let character = text.get(..self.at).map_or(0, |before| before.chars().count()) + 1;
        ConfigError::new(what, format!("{} (at character {character})", self.why), self.fix)
    }
}

/// `bind = address *( "," item )`
fn socket(whole: Piece<'_>, registry: &Registry) -> Result<SocketSpec, Fault> {
    let mut items = items(whole)?.into_iter();
    let address = items.next().unwrap_or(whole).trim();
    if address.text.is_empty() {
        return Err(address.fault("the address is missing", "write the address first: ADDRESS,key=value"));
    }
    let address = text(address)?.to_string();
    let mut spec = SocketSpec { address, auth: Vec::new(), settings: Vec::new() };
    let mut module = None;
    for item in items {
        module = socket_item(item, &mut spec, module, registry)?;
    }
    Ok(spec)
}

/// Reads one item into `spec` and says which module may own the items that follow.
fn socket_item<'r>(
    item: Piece<'_>,
    spec: &mut SocketSpec,
    module_before: Option<&'r dyn Module>,
    registry: &'r Registry,
) -> Result<Option<&'r dyn Module>, Fault> {
    let (key, value) = key_and_value(item)?;
    let name = canonical(key.text);
    if name == "auth" {
        let (module, known) = module(value, registry)?;
        spec.auth.push(module);
        return Ok(Some(known));
    }
    let own = SOCKET_OPTIONS.iter().find(|option| option.spec.name == name);
    let of_module = module_before.filter(|module| option_names(*module).any(|option| option == name));
    match (own, of_module) {
        (Some(_), Some(module)) => {
            let (option, module) = (&name, module.name());
            let fix = format!(
                "write auth={module}({option}=...) for the module's, or put the socket's before auth="
            );
            return Err(key.fault(format!("the socket and {module} both have an option {option}"), fix));
        }
        (Some(own), None) => {
            spec.set(own.spec.name, &text(value)?)
                .map_err(|_| key.fault(format!("option {name} is given twice"), "write it once"))?;
        }
        (None, Some(_)) => {
            let value = text(value)?;
            if let Some(last) = spec.auth.last_mut() {
                last.options.push((name, value));
            }
        }
        (None, None) => {
            let of_module = module_before.into_iter().flat_map(option_names);
            return Err(unknown(key, SOCKET_OPTIONS.iter().map(|option| option.spec.name).chain(of_module)));
        }
    }
    Ok(module_before)
}

/// `module-spec = name [ "(" options ")" ] | name 1*( ":" key "=" text )`
fn module<'r>(piece: Piece<'_>, registry: &'r Registry) -> Result<(ModuleSpec, &'r dyn Module), Fault> {
    let piece = piece.trim();
    let end = name_length(piece.text, registry);
    let (name, rest) = (piece.part(0, end), piece.from(end).trim());
    if name.text.is_empty() {
        return Err(piece.fault("a module's name is expected", "write auth=NAME or auth=NAME(option=value)"));
    }
    let Ok(known) = registry.find(&name.text.replace(' ', "-")) else {
        return Err(unknown(name, registry.modules().map(Module::name)));
    };
    let options = match rest.text.chars().next() {
        None => Vec::new(),
        Some('(') => bracketed(rest, known)?,
        Some(':') => after_colons(rest, known)?,
        Some(_) => {
            let fix = format!("write {0} or {0}(option=value)", known.name());
            return Err(rest.fault("what follows the module's name is not understood", fix));
        }
    };
    Ok((ModuleSpec { name: known.name(), options }, known))
}

/// The bytes of the name in front: one word, or the two of `tcp hosts`, as Xpra's page has it.
fn name_length(text: &str, registry: &Registry) -> usize {
    let length = |is_name: fn(char) -> bool| text.find(|c| !is_name(c)).unwrap_or(text.len());
    let words = text.get(..length(|c| is_word(c) || c == ' ')).unwrap_or_default().trim_end();
    match words.contains(' ') && registry.find(&words.replace(' ', "-")).is_ok() {
        true => words.len(),
        false => length(is_word),
    }
}

/// `"(" [ option *( "," option ) ] ")"`; empty brackets are Xpra's, and mean no options.
fn bracketed(piece: Piece<'_>, module: &dyn Module) -> Result<Vec<(String, Zeroizing<String>)>, Fault> {
    let Some(end) = piece.text.len().checked_sub(1).filter(|_| piece.text.ends_with(')')) else {
        return Err(piece.fault("something follows the closing bracket", "end the module with its bracket"));
    };
    let inside = piece.part(1, end);
    if inside.text.trim().is_empty() {
        return Ok(Vec::new());
    }
    items(inside)?.into_iter().map(|item| option(item, module)).collect()
}

/// `1*( ":" key "=" text )`: a further colon starts an option only before `known-option=`, so that
/// `C:\a`, `$UID:fred` and any password stay whole.
fn after_colons(piece: Piece<'_>, module: &dyn Module) -> Result<Vec<(String, Zeroizing<String>)>, Fault> {
    let inside = piece.from(1);
    let starts_option = |rest: &str| {
        let end = rest.find(|c| !is_word(c)).unwrap_or(rest.len());
        let (key, rest) = rest.split_at(end);
        rest.starts_with('=') && option_names(module).any(|option| option == canonical(key))
    };
    let at_option = |at: usize, c: char| c == ':' && inside.text.get(at + 1..).is_some_and(starts_option);
    cut(inside, at_option)?.into_iter().map(|item| option(item, module)).collect()
}

/// `key "=" text`, the key being one that the module has.
fn option(item: Piece<'_>, module: &dyn Module) -> Result<(String, Zeroizing<String>), Fault> {
    let (key, value) = key_and_value(item)?;
    let name = canonical(key.text);
    if !option_names(module).any(|option| option == name) {
        return Err(unknown(key, option_names(module)));
    }
    Ok((name, text(value)?))
}

fn key_and_value(item: Piece<'_>) -> Result<(Piece<'_>, Piece<'_>), Fault> {
    let trimmed = item.trim();
    if trimmed.text.starts_with('#') {
        return Err(
            trimmed.fault("an item starts with `#`, and there are no comments here", "remove the item")
        );
    }
    let Some(equals) = trimmed.text.find('=') else {
        let why =
            if trimmed.text.is_empty() { "an item is empty" } else { "an item has no `=` and no value" };
        let fix =
            "write key=value; a value that holds a comma, a quote or a bracket goes in quotes: key=\"a,b\"";
        return Err(trimmed.fault(why, fix));
    };
    let (key, value) = (trimmed.part(0, equals).trim(), trimmed.from(equals + 1).trim());
    if value.text.is_empty() {
        return Err(
            value.fault("a value is missing behind `=`", "write key=value, or key=\"\" if it is empty")
        );
    }
    Ok((key, value))
}

/// `text = quoted | unquoted`
fn text(value: Piece<'_>) -> Result<Zeroizing<String>, Fault> {
    let Some(inside) = value.text.strip_prefix('"') else {
        return match value.text.find('"') {
            Some(at) => {
                let fix = "put the whole value in quotes, and write \\\" for a quote in it";
                Err(value.from(at).fault("a quote stands in the middle of a value", fix))
            }
            None => Ok(Zeroizing::new(value.text.to_owned())),
        };
    };
    let mut plain = Zeroizing::new(String::with_capacity(inside.len()));
    let mut characters = inside.char_indices();
    while let Some((at, character)) = characters.next() {
        match character {
            '"' if at + 1 == inside.len() => return Ok(plain),
            '"' => {
                let fix = "end the value with its quote, and write \\\" for a quote in it";
                return Err(value.from(at + 2).fault("something follows the closing quote", fix));
            }
            // `"C:\temp"` would lose its backslash in silence, so before a letter it is an error.
            '\\' => match characters.next() {
                Some((_, escaped)) if !escaped.is_alphanumeric() => plain.push(escaped),
                _ => {
                    let fix = "write it twice, or leave the quotes out";
                    return Err(value.from(at + 1).fault("a lone backslash stands in quotes", fix));
                }
            },
            _ => plain.push(character),
        }
    }
    Err(unclosed_quote(value))
}

/// Cuts at the commas outside quotes and brackets.
fn items(piece: Piece<'_>) -> Result<Vec<Piece<'_>>, Fault> {
    cut(piece, |_, character| character == ',')
}

/// Cuts at the characters that `is_cut` says, outside quotes and brackets, which must balance.
fn cut(piece: Piece<'_>, is_cut: impl Fn(usize, char) -> bool) -> Result<Vec<Piece<'_>>, Fault> {
    let (mut parts, mut start) = (Vec::new(), 0);
    let (mut brackets, mut quote, mut escaped) = (Vec::new(), None, false);
    for (at, character) in piece.text.char_indices() {
        match character {
            _ if escaped => escaped = false,
            '\\' if quote.is_some() => escaped = true,
            '"' => quote = if quote.is_some() { None } else { Some(at) },
            _ if quote.is_some() => {}
            '(' => brackets.push(at),
            ')' if brackets.pop().is_none() => {
                return Err(piece.from(at).fault("a bracket is closed that was not opened", BALANCE));
            }
            _ if brackets.is_empty() && is_cut(at, character) => {
                parts.push(piece.part(start, at));
                start = at + character.len_utf8();
            }
            _ => {}
        }
    }
    match (quote, brackets.first()) {
        (Some(at), _) => Err(unclosed_quote(piece.from(at))),
        (None, Some(&at)) => Err(piece.from(at).fault("a bracket is not closed", BALANCE)),
        (None, None) => {
            parts.push(piece.from(start));
            Ok(parts)
        }
    }
}

fn unclosed_quote(at: Piece<'_>) -> Fault {
    at.fault("a quote is not closed", "close it, and write \\\" for a quote in the value")
}

/// A word that should be one of `right`. It is repeated only where it is nearly one of them.
fn unknown<'n>(word: Piece<'_>, right: impl Iterator<Item = &'n str>) -> Fault {
    let right: Vec<&str> = right.collect();
    match nearest(&canonical(word.text), right.iter().copied()) {
        Some(near) => {
            let why = format!("there is no `{}`", word.text.escape_debug());
            word.fault(why, format!("did you mean `{near}`?"))
        }
        None => word.fault("an unknown name", format!("use one of: {}", right.join(", "))),
    }
}

fn option_names(module: &dyn Module) -> impl Iterator<Item = &'static str> {
    module.options().iter().chain(COMMON_OPTIONS).map(|option| option.name)
}

fn is_word(character: char) -> bool {
    character.is_ascii_alphanumeric() || matches!(character, '-' | '_')
}

/// Keys are compared in lower case, with `_` as `-`.
pub(super) fn canonical(key: &str) -> String {
    key.trim().to_ascii_lowercase().replace('_', "-")
}

fn quoted(text: &str) -> String {
    format!("\"{}\"", text.replace('\\', "\\\\").replace('"', "\\\""))
}

const BALANCE: &str = "put a value that holds brackets in quotes";

#[cfg(test)]
mod tests;
