//! What a server says of itself and of us, for a person or a program to read.

use serde_json::{Value as Json, json};

use super::driver::ServerFacts;
use crate::proto::wire::xpra::Value;

impl ServerFacts {
    /// Lines of `name=value`: what this client found out, then what the server said, its
    /// dictionaries flattened with dots. The server's text is escaped (S-89).
    pub fn lines(&self) -> Vec<String> {
        let found = self.found();
        let mut lines: Vec<String> =
            found.iter().map(|(name, value)| format!("client.{name}={value}")).collect();
        for (key, value) in self.hello.caps().entries() {
            flatten(&escaped(key), value, &mut lines);
        }
        lines
    }

    /// The same as JSON: `client` for what this client found out, `server` for what the server said.
    pub fn to_json(&self) -> Json {
        let found: serde_json::Map<String, Json> =
            self.found().into_iter().map(|(name, value)| (name.to_owned(), Json::String(value))).collect();
        json!({ "client": found, "server": Json::Object(object(self.hello.caps().entries())) })
    }

    fn found(&self) -> Vec<(&'static str, String)> {
        let yes_or_no = |value: bool| (if value { "yes" } else { "no" }).to_owned();
        let answered: Vec<String> = self.answered.iter().map(ToString::to_string).collect();
        let mut found = vec![
            ("address", self.address.clone()),
            ("verified", yes_or_no(self.verified)),
            ("encrypted", yes_or_no(self.tls.is_some() || self.ssh || self.aes)),
            ("answered", answered.join(" ")),
        ];
        found.extend(self.fingerprint.map(|it| ("server_key", format!("sha256:{it}"))));
        found.extend(self.shown.map(|it| ("certificate", format!("sha256:{it}"))));
        found.extend(self.tls.as_ref().map(|tls| ("tls", format!("{} {}", tls.version, tls.cipher))));
        found
    }
}

fn flatten(name: &str, value: &Value, lines: &mut Vec<String>) {
    match value {
        Value::Dict(entries) => {
            for (key, value) in entries {
                let key = escaped(key);
                // Modern servers nest the scalar of a name under the empty key.
                let name = if key.is_empty() { name.to_owned() } else { format!("{name}.{key}") };
                flatten(&name, value, lines);
            }
        }
        scalar => lines.push(format!("{name}={}", escaped(scalar))),
    }
}

/// A value on one line, without controls.
fn escaped(value: &Value) -> String {
    match value {
        Value::List(items) => {
            let items: Vec<String> = items.iter().map(escaped).collect();
            format!("[{}]", items.join(", "))
        }
        Value::Dict(entries) => {
            let entries: Vec<String> =
                entries.iter().map(|(key, value)| format!("{}: {}", escaped(key), escaped(value))).collect();
            format!("{{{}}}", entries.join(", "))
        }
        Value::Null => "none".to_owned(),
        Value::Bool(value) => value.to_string(),
        Value::Int(value) => value.to_string(),
        Value::BigInt(digits) => digits.as_str().to_owned(),
        Value::Float(value) => value.to_string(),
        other => other.to_text().unwrap_or_default().chars().fold(String::new(), |mut text, c| {
            if c.is_control()
                || ('\u{202a}'..='\u{202e}').contains(&c)
                || ('\u{2066}'..='\u{2069}').contains(&c)
            {
                text.extend(c.escape_default());
            } else {
                text.push(c);
            }
            text
        }),
    }
}

fn object(entries: &[(Value, Value)]) -> serde_json::Map<String, Json> {
    entries.iter().map(|(key, value)| (escaped(key), to_json(value))).collect()
}

fn to_json(value: &Value) -> Json {
    match value {
        Value::Null => Json::Null,
        Value::Bool(value) => json!(value),
        Value::Int(value) => json!(value),
        Value::Float(value) => json!(value),
        Value::List(items) => Json::Array(items.iter().map(to_json).collect()),
        Value::Dict(entries) => Json::Object(object(entries)),
        other => Json::String(escaped(other)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_089_a_servers_text_stays_on_its_line_and_moves_no_cursor() {
        let hostile = Value::Dict(vec![
            (
                "a".into(),
                Value::Dict(vec![("".into(), true.into()), ("b\n".into(), "x\n\u{1b}[2J\u{202e}".into())]),
            ),
            ("c".into(), Value::List(vec![Value::Int(1), "two".into(), Value::Null])),
        ]);
        let mut lines = Vec::new();
        flatten("top", &hostile, &mut lines);
        assert_eq!(lines, ["top.a=true", "top.a.b\\n=x\\n\\u{1b}[2J\\u{202e}", "top.c=[1, two, none]"]);
        let json = to_json(&hostile).to_string();
        assert!(!json.contains('\u{1b}') && !json.contains('\u{202e}'), "{json}");
    }
}
