//! `oauth`: tokens of a real issuer, at the gateway by Xpra's capability and by our own client.

use std::{fs, os::unix::fs::PermissionsExt as _, process::Command, thread, time::Duration};

use countersign_interop::{
    Place,
    gateway::{Gateway, binary, countersign},
    issuer::{Issuer, now},
    net::dial_unix,
    process::{Finished, run},
    wire::{self, Received, Value, hello, honest, with, without},
};
use serde_json::json;

#[test]
fn right_tokens_of_each_kind_let_in_as_whom_they_name() {
    let issuer = Issuer::start();
    let gate = Gate::of_keys(&issuer, "");
    let rs256 = issuer.token(&issuer.claims("alice"));
    let es256 = issuer.mint(&json!({"alg": "ES256", "kid": "second", "claims": issuer.claims("bob")}));
    let ps256 = issuer.mint(&json!({"alg": "PS256", "kid": "first", "claims": issuer.claims("carol")}));
    let nameless = issuer.mint(&json!({"alg": "RS256", "key": "first", "claims": issuer.claims("dave")}));
    let access =
        issuer.mint(&json!({"alg": "ES256", "kid": "second", "header": {"typ": "at+jwt"}, "claims": issuer.claims("eve")}));
    let mut several = issuer.claims("frank");
    several["aud"] = json!(["elsewhere", "gate"]);
    let several = issuer.token(&several);
    for (token, name) in [
        (rs256, "alice"),
        (es256, "bob"),
        (ps256, "carol"),
        (nameless, "dave"),
        (access, "eve"),
        (several, "frank"),
    ] {
        // Whatever the client claims: it is whom the issuer names.
        assert_eq!(gate.shows(&token).as_deref(), Some(name));
    }
    assert_eq!(issuer.asked("/keys"), 1, "the keys are fetched once");
    // An issuer that knows only the older standard.
    let gate = Gate::with(&format!("issuer={}/plain,audience=gate", issuer.base));
    let mut plain = issuer.claims("alice");
    plain["iss"] = json!(format!("{}/plain", issuer.base));
    assert_eq!(gate.shows(&issuer.token(&plain)).as_deref(), Some("alice"));
}

#[test]
fn wrong_tokens_are_refused_whatever_is_wrong_with_them() {
    let issuer = Issuer::start();
    let gate = Gate::of_keys(&issuer, ",scope=enter,clock-skew=5");
    let right = || {
        let mut claims = issuer.claims("alice");
        claims["scope"] = json!("openid enter");
        claims
    };
    assert_eq!(gate.shows(&issuer.token(&right())).as_deref(), Some("alice"));
    let changes = [
        ("exp", json!(now() - 60)),
        ("exp", json!(null)),
        ("exp", json!("tomorrow")),
        ("nbf", json!(now() + 60)),
        ("iss", json!("https://id.example")),
        ("iss", json!(format!("{}/", issuer.name()))),
        ("iss", json!(null)),
        ("aud", json!("another")),
        ("aud", json!([])),
        ("aud", json!(null)),
        ("scope", json!("openid")),
        ("sub", json!(null)),
        ("sub", json!("a/b")),
        ("cnf", json!({"jkt": "x"})),
    ];
    let changed = changes.map(|(name, value)| {
        let mut claims = right();
        claims[name] = value;
        (format!("{name}: {}", claims[name]), issuer.token(&claims))
    });
    gate.refuses(&changed);
    let order = |order: serde_json::Value| {
        let mut order = order;
        order["claims"] = right();
        issuer.mint(&order)
    };
    let wrong = [
        // RFC 8725 section 2.1: the public key as a shared secret, and no signature at all.
        order(json!({"alg": "HS256", "kid": "first"})),
        order(json!({"alg": "HS256", "kid": "shared", "key": "first"})),
        order(json!({"alg": "none", "kid": "first"})),
        order(json!({"alg": "none"})),
        // The right signature by a key that has another name, or none there.
        order(json!({"alg": "RS256", "kid": "second", "key": "first"})),
        order(json!({"alg": "ES256", "kid": "first", "key": "second"})),
        order(json!({"alg": "RS256", "kid": "nobody", "key": "first"})),
        order(json!({"alg": "RS256", "kid": "first", "header": {"crit": ["exp"]}})),
        order(json!({"alg": "RS256", "kid": "first", "header": {"typ": "logout+jwt"}})),
        issuer.token(&right()) + "x",
        issuer.token(&right()).replacen('.', ".e30", 1),
        "opaque".to_owned(),
    ];
    gate.refuses(&wrong.map(|token| (token.clone(), token)));
    assert_eq!(gate.shows(&issuer.token(&right())).as_deref(), Some("alice"));
}

#[test]
fn keys_that_change_are_found_and_strangers_do_not_have_the_issuer_asked_without_end() {
    let issuer = Issuer::start();
    let gate = Gate::of_keys(&issuer, "");
    assert!(gate.shows(&issuer.token(&issuer.claims("alice"))).is_some());
    issuer.change_keys("third", "EC", Some("first"));
    let third = issuer.mint(&json!({"alg": "ES256", "kid": "third", "claims": issuer.claims("alice")}));
    assert_eq!(gate.shows(&third).as_deref(), Some("alice"), "a new key is looked for at once");
    assert_eq!(issuer.asked("/keys"), 2);
    for number in 0..4 {
        let made_up = issuer.mint(
            &json!({"alg": "ES256", "kid": format!("none{number}"), "key": "third", "claims": issuer.claims("alice")}),
        );
        assert_eq!(gate.shows(&made_up), None);
    }
    assert_eq!(issuer.asked("/keys"), 2, "once in ten seconds");
    assert_eq!(gate.shows(&third).as_deref(), Some("alice"));
}

#[test]
fn an_issuer_that_lies_is_slow_or_moved_lets_nobody_in() {
    let issuer = Issuer::start();
    let token = issuer.token(&issuer.claims("alice"));
    for path in ["liar", "moved", "nothing"] {
        let gate = Gate::with(&format!("issuer={}/{path},audience=gate", issuer.base));
        let mut claims = issuer.claims("alice");
        claims["iss"] = json!(format!("{}/{path}", issuer.base));
        assert_eq!(gate.shows(&issuer.token(&claims)), None, "{path}");
        assert!(gate.logs("module_failed"), "{path}");
    }
    issuer.set(&json!({"slow": 30}));
    let gate = Gate::of_keys(&issuer, ",timeout=1");
    let start = std::time::Instant::now();
    assert_eq!(gate.shows(&token), None);
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    issuer.set(&json!({"slow": 0}));
    thread::sleep(Duration::from_secs(1));
    assert_eq!(gate.shows(&token).as_deref(), Some("alice"), "it comes back");
}

#[test]
fn opaque_tokens_are_asked_about_and_only_a_clear_yes_counts() {
    let issuer = Issuer::start_with_tls();
    let place = Place::new();
    let (secret, guessed) = (place.file("secret", "se:cret\n"), place.file("guessed", "guess"));
    let ca = &issuer.identity.as_ref().expect("TLS").cert;
    let options = |secret: &str, ca: &str| {
        format!(
            "introspection-url={0}/introspect,issuer={0}/realm,client-id=\"gate way\",client-secret-file={secret},\
             audience=gate,username-claim=username{ca}",
            issuer.base
        )
    };
    let yes = |change: (&str, serde_json::Value)| {
        let mut answer = json!({"active": true, "username": "alice", "aud": "gate", "exp": now() + 60});
        answer[change.0] = change.1;
        answer
    };
    issuer.set(&json!({"opaque": {
        "right": yes(("scope", json!("any"))),
        "inactive": yes(("active", json!(false))),
        "text": yes(("active", json!("true"))),
        "late": yes(("exp", json!(now() - 60))),
        "early": yes(("nbf", json!(now() + 60))),
        "odd": yes(("exp", json!("soon"))),
        "foreign": yes(("iss", json!("https://id.example"))),
        "audience": yes(("aud", json!("another"))),
        "nameless": yes(("username", json!(null))),
    }}));
    let gate = Gate::with(&options(&secret, &format!(",ca={ca}")));
    assert_eq!(gate.shows("right").as_deref(), Some("alice"));
    let wrong = ["inactive", "text", "late", "early", "odd", "foreign", "audience", "nameless", "unknown"];
    gate.refuses(&wrong.map(|token| (token.to_owned(), token.to_owned())));
    // The gateway's own secret is wrong; the issuer's certificate is nobody's that is known.
    for options in [options(&guessed, &format!(",ca={ca}")), options(&secret, "")] {
        let gate = Gate::with(&options);
        assert_eq!(gate.shows("right"), None);
        assert!(gate.logs("module_failed"));
    }
}

#[test]
fn s_088_no_token_is_logged_or_passed_on() {
    let issuer = Issuer::start();
    let socket = format!("unix:{}", "/nonexistent/xpra");
    let place = Place::new();
    let at = place.text("gate");
    let module = format!("oauth(issuer={},audience=gate)", issuer.name());
    let gateway = Gateway::start(&[
        format!("--bind={at},auth={module}"),
        format!("--backend=xpra+{socket}"),
        "-d".to_owned(),
        "all".to_owned(),
    ]);
    let (right, wrong) = (issuer.token(&issuer.claims("alice")), "wrong-token-8d1f".to_owned());
    for token in [&right, &wrong] {
        let mut stream = dial_unix(at.as_ref());
        wire::send(&mut stream, &hello(carrying("alice", token)));
        let _ = wire::read(&mut stream);
    }
    let logged = ["auth success", "auth failure"];
    assert!(gateway.daemon().eventually(|| logged.iter().all(|text| gateway.log().contains(text))));
    let log = gateway.log();
    for token in [&right, &wrong] {
        assert!(!log.contains(token.as_str()));
        assert!(!log.contains(token.rsplit('.').next().expect("a signature")));
    }
}

#[test]
fn our_client_gets_a_token_by_the_device_flow_keeps_it_and_renews_it() {
    let issuer = Issuer::start();
    issuer.set(&json!({"claims": {"aud": "gate", "sub": "alice"}}));
    let gate = Gate::of_keys(&issuer, "");
    let place = Place::new();
    let handler = format!("--challenge-handlers=oauth(issuer={},client-id=cli)", issuer.name());
    let arguments = ["info", "--json", &handler, &gate.address];
    // Nobody can confirm a code in a service.
    run(&mut countersign(&place, &arguments)).expect_code(79).expect_text("terminal");
    let first = on_a_terminal(&place, &arguments);
    first.expect_success().expect_text("WDJB-MJHT").expect_text("/go").expect_text("alice");
    assert_eq!((issuer.asked("/device"), issuer.asked("/token")), (1, 2), "pending once");
    let folder = place.path("home/countersign/tokens");
    let kept: Vec<_> =
        fs::read_dir(&folder).expect("tokens").map(|entry| entry.expect("an entry").path()).collect();
    let [kept] = &kept[..] else { panic!("one file: {kept:?}") };
    assert_eq!(fs::metadata(kept).expect("a file").permissions().mode() & 0o777, 0o600);
    assert_eq!(fs::metadata(&folder).expect("a folder").permissions().mode() & 0o777, 0o700);
    // From now on nobody is asked, with a terminal or without.
    run(&mut countersign(&place, &arguments)).expect_success().expect_text("alice");
    assert_eq!(issuer.asked("/token"), 2);
    // The module alone, without a gateway, is shown the same token.
    let module = format!("oauth(issuer={},audience=gate)", issuer.name());
    let test = ["modules", "test", &module, &handler];
    run(&mut countersign(&place, &test)).expect_success().expect_text("passed").expect_text("\"alice\"");
    let module = format!("oauth(issuer={},audience=another)", issuer.name());
    let test = ["modules", "test", &module, &handler];
    run(&mut countersign(&place, &test))
        .expect_code(77)
        .expect_text("the token is meant for another audience");
    // The token's time is over: it is renewed.
    let text = fs::read_to_string(kept).expect("a text").replace("\"expires\":", "\"expires\":1,\"was\":");
    fs::write(kept, text).expect("an own file");
    run(&mut countersign(&place, &arguments)).expect_success().expect_text("alice");
    assert_eq!((issuer.asked("/device"), issuer.asked("/token")), (1, 3));
    // Others could read it.
    fs::set_permissions(kept, fs::Permissions::from_mode(0o644)).expect("an own file");
    run(&mut countersign(&place, &arguments)).expect_code(79).expect_text("chmod 600");
}

#[test]
fn s_033_our_client_gives_its_token_to_nobody_on_an_open_wire_or_of_unknown_name() {
    let issuer = Issuer::start();
    issuer.set(&json!({"claims": {"aud": "gate", "sub": "alice"}}));
    let module = format!("oauth(issuer={},audience=gate)", issuer.name());
    let gateway = Gateway::start(&[format!("--bind-tcp=127.0.0.1:0,auth={module}")]);
    let handler = format!("--challenge-handlers=keycloak(issuer={},client-id=cli)", issuer.name());
    let place = Place::new();
    // The gateway does not even ask.
    let open = format!("tcp://127.0.0.1:{}/", gateway.port());
    run(&mut countersign(&place, &["info", &handler, &open])).expect_code(76).expect_text("encrypted");
    assert_eq!(issuer.asked("/device"), 0);
    // In TLS it does, and the issuer vouches for the person that the gateway then knows.
    let tls = format!("tls://127.0.0.1:{}/", gateway.port());
    let root = gateway.root();
    on_a_terminal(&place, &["info", "--ca", &root, &handler, &tls]).expect_success().expect_text("alice");
}

/// A gateway with one socket, and what a client needs to get there.
struct Gate {
    gateway: Gateway,
    socket: String,
    address: String,
    _place: Place,
}

impl Gate {
    /// With the issuer's keys, and more options.
    fn of_keys(issuer: &Issuer, more: &str) -> Self {
        Self::with(&format!("issuer={},audience=gate{more}", issuer.name()))
    }

    fn with(options: &str) -> Self {
        let place = Place::new();
        let socket = place.text("gate");
        let gateway = Gateway::start(&[format!("--bind={socket},auth=oauth({options})")]);
        let address = format!("unix:{socket}");
        Self { gateway, socket, address, _place: place }
    }

    /// Shows tokens at one time, of which every one must be refused.
    #[track_caller]
    fn refuses(&self, tokens: &[(String, String)]) {
        let shown: Vec<_> = thread::scope(|scope| {
            let show = |(what, token)| scope.spawn(move || (what, self.shows(token)));
            let shown: Vec<_> = tokens.iter().map(|(what, token)| show((what, token))).collect();
            shown.into_iter().map(|shown| shown.join().expect("an answer")).collect()
        });
        let passed: Vec<_> = shown.into_iter().filter(|(_, who)| who.is_some()).collect();
        assert!(passed.is_empty(), "{passed:?}");
    }

    /// Whether the gateway says this in a moment: a refusal is recorded when the client has left.
    fn logs(&self, text: &str) -> bool {
        self.gateway.daemon().eventually(|| self.gateway.log().contains(text))
    }

    /// Shows a token as Xpra's clients would, in the hello. Who it is then, or `None` for a refusal.
    fn shows(&self, token: &str) -> Option<String> {
        let mut stream = dial_unix(self.socket.as_ref());
        wire::send(&mut stream, &hello(carrying("mallory", token)));
        match wire::read(&mut stream) {
            Received::Packet(kind, items) if kind == "hello" => {
                let Value::Dict(caps) = &items[0] else { panic!("a dictionary: {items:?}") };
                let user = caps.iter().find(|(name, _)| *name == Value::from("user"));
                Some(user.expect("a name").1.text())
            }
            Received::Packet(kind, items) if kind == "disconnect" => {
                assert_eq!(items[0].text(), "authentication failed");
                None
            }
            other => panic!("{other:?}"),
        }
    }
}

/// What a client says that has a token and nothing else: it insists on no challenge.
fn carrying(user: &str, token: &str) -> Vec<(Value, Value)> {
    with(without(honest(user), "challenge"), "oauth.token", Value::from(token))
}

/// Runs a command on a terminal of its own, which a person looks at.
fn on_a_terminal(place: &Place, arguments: &[&str]) -> Finished {
    let quoted: Vec<String> = arguments.iter().map(|word| format!("'{word}'")).collect();
    let line = format!("'{}' {}", binary().display(), quoted.join(" "));
    let inner = countersign(place, arguments);
    let mut command = Command::new("script");
    // Whatever shell the account has: some have one that refuses.
    command.args(["--quiet", "--return", "--command", &line, "/dev/null"]).env("SHELL", "/bin/sh");
    for (name, value) in inner.get_envs() {
        match value {
            Some(value) => command.env(name, value),
            None => command.env_remove(name),
        };
    }
    run(&mut command)
}
