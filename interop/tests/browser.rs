//! The login page of a gateway in a real browser, over `wss`: every digest that Xpra's HTML5 client lists.

use std::process::Command;

use countersign_interop::{
    Place,
    browser::{Browser, public_key},
    certificate::Pair,
    gateway::Gateway,
    net::free_port,
    process::must,
};
use serde_json::{Value, json};

/// Those of the HTML5 client of all versions: of its own, of WebCrypto, and of the library that it had before.
const ITS_DIGESTS: [(&str, bool); 10] = [
    ("hmac+sha512", true),
    ("hmac+sha384", true),
    ("hmac+sha256", true),
    // In the clear for whoever knows the salts: for modules that need the password itself, and for no other.
    ("xor", false),
    ("keycloak", false),
    ("hmac", false),
    ("hmac+md5", false),
    ("hmac+sha1", false),
    ("hmac+sha512/224", false),
    ("hmac+sha512/256", false),
];

const WHOLE_LIST: &str = "xor keycloak hmac+sha256 hmac+sha1 hmac+sha256 hmac+sha384 hmac+sha512";

#[test]
fn s_029_a_browser_logs_in_by_each_safe_digest_of_the_html5_client_and_by_no_other() {
    let site = Site::new();
    let browser = Browser::start(&public_key(&site.pair.cert));
    browser.open(&site.address(0));
    let log_in = |password: &str, digests: &str, salts: &str| -> (String, String) {
        let offers = "const form = document.getElementById('login'); form.dataset.digests = arguments[0]; \
                      form.dataset.salts = arguments[1]; delete document.getElementById('result').dataset.state;";
        let _ = browser.run(offers, &[digests, salts]);
        browser.type_into("#name", "alice");
        browser.type_into("#password", password);
        browser.click("#submit");
        let ended = "const { state } = document.getElementById('result').dataset; \
                     return ['in', 'refused'].includes(state) ? [state, document.getElementById('result').textContent] : null;";
        let ended = browser.wait_for(ended);
        let text = |part: &Value| part.as_str().unwrap_or_default().to_owned();
        (text(&ended[0]), text(&ended[1]))
    };
    // As the page is, with the right password and another.
    let own = "hmac+sha512 hmac+sha384 hmac+sha256 xor";
    let salts = "hmac+sha512 hmac+sha384 hmac+sha256";
    let (state, words) = log_in(WORD, own, salts);
    assert_eq!((state.as_str(), words.as_str()), ("in", "Logged in as alice by multifile:hmac+sha512."));
    let (state, words) = log_in("another word", own, salts);
    assert_eq!((state.as_str(), words.as_str()), ("refused", "Not logged in: authentication failed."));
    // Each of the list by itself.
    for (digest, is_safe) in ITS_DIGESTS {
        let (state, words) = log_in(WORD, digest, salts);
        if is_safe {
            assert_eq!((state.as_str(), words.contains(digest)), ("in", true), "{digest}: {words}");
        } else {
            assert_eq!(
                (state.as_str(), words.contains("Logged in")),
                ("refused", false),
                "{digest}: {words}"
            );
        }
    }
    // The whole list, for salts too, as the client sends it: the best is chosen. Salts are never mixed by less.
    let (state, words) = log_in(WORD, WHOLE_LIST, WHOLE_LIST);
    assert_eq!((state.as_str(), words.contains("hmac+sha512")), ("in", true), "{words}");
    for salts in ["xor", "hmac+sha1"] {
        assert_eq!(log_in(WORD, WHOLE_LIST, salts).0, "refused", "salts by {salts:?}");
    }
    // A module that needs the password itself gets it in TLS, and by `xor` alone.
    browser.open(&site.address(1));
    let (state, words) = log_in("whatever", own, salts);
    assert_eq!((state.as_str(), words.contains("exec:xor")), ("in", true), "{words}");
    assert_eq!(log_in("whatever", "hmac+sha512 hmac+sha256", salts).0, "refused");
    let log = site.gateway.log();
    assert!(!log.contains(WORD) && !log.contains("another word"), "{log}");
}

#[test]
fn s_018_the_page_runs_its_own_script_alone_and_only_listed_pages_connect() {
    let site = Site::new();
    let browser = Browser::start(&public_key(&site.pair.cert));
    browser.open(&site.address(0));
    // What is injected does not run, and nothing else is reached.
    let injected = "const script = document.createElement('script'); script.textContent = 'window.ran = 1'; \
                    document.body.append(script); return window.ran ?? 'refused';";
    assert_eq!(browser.run(injected, &[]), json!("refused"));
    let _ = browser.run(
        "window.reached = null; fetch(arguments[0], { mode: 'no-cors' }).then(() => { window.reached = 'reached' }, () => { window.reached = 'refused' });",
        &[&site.address(1)],
    );
    assert_eq!(browser.wait_for("return window.reached"), json!("refused"));
    // The second socket lists the first page's origin only.
    browser.open(&site.address(2));
    browser.type_into("#name", "alice");
    browser.type_into("#password", WORD);
    browser.click("#submit");
    let refused = browser.wait_for(
        "const { state } = document.getElementById('result').dataset; return state === 'refused' ? document.getElementById('result').textContent : null;",
    );
    assert!(refused.as_str().is_some_and(|text| text.contains("websocket-origins")), "{refused}");
    // Nothing that was typed is in the address or stays in the page.
    let left = browser.run("return location.href + document.getElementById('password').value", &[]);
    assert_eq!(left, json!(site.address(2)));
    // Other clients of HTTP are answered as before.
    let head = must(Command::new("curl").args(["--silent", "--insecure", "--head", &site.address(0)]));
    assert!(head.contains("200 OK") && head.contains("default-src 'none'"), "{head}");
    let elsewhere =
        must(Command::new("curl").args(["--silent", "--insecure", &format!("{}x", site.address(0))]));
    assert!(elsewhere.contains("nothing here"), "{elsewhere}");
}

/// A gateway with three sockets: one that knows the secret, one that needs the password, one that does not list its page.
struct Site {
    gateway: Gateway,
    pair: Pair,
    ports: [u16; 3],
    _place: Place,
}

impl Site {
    fn new() -> Self {
        let place = Place::new();
        let pair = Pair::of_localhost(&place, "gate");
        let users = place.file("users", format!("alice|{WORD}|nobody|nogroup||\n"));
        let ports = [free_port(), free_port(), free_port()];
        let bind = |port: u16, page: u16, chain: &str| {
            format!(
                "--bind-wss=127.0.0.1:{port},{chain},ssl-cert={},ssl-key={},login-page=yes,websocket-origins=https://localhost:{page}",
                pair.cert, pair.key
            )
        };
        let known = format!("auth=multifile(filename={users})");
        let gateway = Gateway::start(&[
            bind(ports[0], ports[0], &known),
            bind(ports[1], ports[1], "auth=exec(command=/bin/true,require-challenge=yes)"),
            bind(ports[2], ports[0], &known),
        ]);
        Self { gateway, pair, ports, _place: place }
    }

    fn address(&self, socket: usize) -> String {
        format!("https://localhost:{}/", self.ports[socket])
    }
}

const WORD: &str = "a word f\u{fc}r the page";
