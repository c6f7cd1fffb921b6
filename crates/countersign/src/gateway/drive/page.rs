//! The login page: a person logs in with a browser and is told what the gateway makes of it. Asked for by a socket's
//! `login-page=yes`; called by `upgrade.rs` where a client wants a page and no WebSocket.
//!
//! The page is one file. Its script logs in over the WebSocket of the same socket, as any client, in whose chain nothing
//! changes by it; what the browser may do beside that is nothing (Content Security Policy, level 3): no other origin, no
//! other script than this one by its hash, no frame around it, no form that is sent anywhere. So a secret cannot get
//! into an address, and nothing that is injected runs.

use base64::{Engine as _, prelude::BASE64_STANDARD};
use sha2::{Digest as _, Sha256};

/// The answer to a request for the page; `head_only` for the method HEAD.
pub(super) fn answer(head_only: bool) -> Vec<u8> {
    let (script, style) = (inside("script"), inside("style"));
    let head = format!(
        "HTTP/1.1 200 OK\r\nContent-Type: text/html; charset=utf-8\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'none'; script-src '{}'; style-src '{}'; connect-src 'self'; \
         form-action 'none'; base-uri 'none'; frame-ancestors 'none'\r\n\
         Cache-Control: no-store\r\nReferrer-Policy: no-referrer\r\nX-Content-Type-Options: nosniff\r\n\
         Cross-Origin-Opener-Policy: same-origin\r\nConnection: close\r\n\r\n",
        PAGE.len(),
        hash(script),
        hash(style),
    );
    let mut answer = head.into_bytes();
    if !head_only {
        answer.extend_from_slice(PAGE.as_bytes());
    }
    answer
}

/// What stands between the tags of this name; each is there once.
fn inside(name: &str) -> &'static str {
    let (open, close) = (format!("<{name}>"), format!("</{name}>"));
    let behind = PAGE.split_once(&open).map_or("", |(_, behind)| behind);
    behind.split_once(&close).map_or("", |(inside, _)| inside)
}

/// As a policy names it.
fn hash(text: &str) -> String {
    format!("sha256-{}", BASE64_STANDARD.encode(Sha256::digest(text)))
}

const PAGE: &str = include_str!("page/login.html");

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn s_088_the_page_runs_its_own_script_alone_and_sends_no_form() {
        let answer = String::from_utf8(answer(false)).unwrap();
        let (head, page) = answer.split_once("\r\n\r\n").unwrap();
        for name in ["script", "style"] {
            assert_eq!(page.matches(&format!("<{name}")).count(), 1, "{name}");
            assert!(!inside(name).is_empty() && head.contains(&hash(inside(name))), "{name}");
        }
        for directive in
            ["default-src 'none'", "form-action 'none'", "frame-ancestors 'none'", "base-uri 'none'"]
        {
            assert!(head.contains(directive), "{directive}");
        }
        for loose in ["unsafe-", "http:", "https:", "*", "data:"] {
            assert!(!head.contains(loose), "{loose}");
        }
        // Nothing is loaded, and no handler or style stands in a tag, which the policy would refuse.
        let markup = page.replace(inside("script"), "").replace(inside("style"), "");
        for outside in ["src=", "href=", "http://", "https://", "action=", " on", "style="] {
            assert!(!markup.contains(outside), "{outside}");
        }
        assert!(head.contains(&format!("Content-Length: {}", page.len())));
        assert_eq!(super::answer(true).len(), head.len() + 4);
    }
}
