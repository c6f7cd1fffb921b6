//! The options of one socket, and what they leave of it.

use super::*;

#[test]
fn an_address_and_a_name_are_given_once() {
    for twice in [
        &["bind-tcp=:1", "bind-tcp=127.0.0.1:1"][..],
        &["bind-tcp=:1", "bind-ssl=localhost:1"],
        &["bind=/a", "bind=/a"],
        &["bind-tcp=[::1]:1", "bind-tcp=[0::1]:1"],
        &["bind-tcp=:1,name=a", "bind-tcp=:2,name=a"],
    ] {
        assert!(flags(twice).is_err(), "{twice:?}");
    }
    assert_eq!(flags(&["bind-tcp=:0", "bind-tcp=:0", "bind=none"]).unwrap().sockets.len(), 2);
    assert!(flags(&["bind=none"]).is_err());
    assert!(flags(&[]).unwrap_err().fix().contains("--bind=auto"));
}

#[test]
fn the_options_of_a_socket_become_its_values() {
    let config = flags(&[
        "bind=/a,mode=0640,owner=0,group=root,name=web,protocol=xpra,login-timeout=5s,handshake-timeout=2,backend=tcp:h:1",
        "bind-tcp=*:1,auth=env,protocols=\"plain, tls\",tls-min=1.2,ssl-cert=/c,ssl-key=/k",
        "bind-tcp=*:2,auth=env,protocols=plain",
        "ssl-cert=/all",
        "backend=unix:/run/app",
    ])
    .unwrap();
    let [unix, tcp, plain] = &config.sockets[..] else { panic!("three sockets") };
    assert_eq!((unix.unix.mode, unix.unix.owner, unix.unix.group), (0o640, Some(0), Some(0)));
    assert_eq!(
        (unix.label().as_str(), unix.protocol, &*unix.backend.to_string()),
        ("web", Protocol::Xpra, "tcp:h:1")
    );
    assert_eq!((unix.login_timeout.as_secs(), unix.handshake_timeout.as_secs()), (5, 2));
    assert_eq!(
        (tcp.accepts, tcp.tls.allow_tls12, &*tcp.backend.to_string()),
        (Accepts::PlainAndTls, true, "unix:/run/app")
    );
    assert_eq!(tcp.tls.key.as_deref(), Some(Path::new("/k")));
    assert_eq!((plain.accepts, plain.tls.certificate.as_deref()), (Accepts::Plain, Some(Path::new("/all"))));
    assert_eq!(flags(&["bind=/a,group=0"]).unwrap().sockets[0].unix.mode, 0o660);
}

#[test]
fn a_socket_is_encrypted_where_it_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let file = |name: &str, content: &str, mode: u32| {
        let path = folder.path().join(name);
        std::fs::write(&path, content).unwrap();
        std::fs::set_permissions(&path, std::os::unix::fs::PermissionsExt::from_mode(mode)).unwrap();
        path.display().to_string()
    };
    let codes = file("codes", "alice|GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ\n", 0o600);
    let (key, open, empty) =
        (file("key", "key", 0o600), file("open", "key", 0o644), file("empty", "\n", 0o600));
    let of = |bind: &str| flags(&[&format!("bind-tcp=:1,auth=otp(filename={codes}){bind}")]);
    for (bind, cipher) in [
        (format!(",encryption=AES,keyfile={key}"), Some("AES")),
        (format!(",encryption=aes-ctr,keyfile={key}"), Some("AES-CTR")),
        (format!(",keyfile={key}"), Some("AES")),
        (String::new(), None),
    ] {
        let socket = of(&bind).unwrap().sockets.remove(0);
        assert_eq!(socket.encryption.as_ref().map(|it| it.terms.cipher().to_string()).as_deref(), cipher);
        // S-33: what is encrypted needs no warning of the module's.
        assert_eq!(socket.warnings.is_empty(), cipher.is_some(), "{:?}", socket.warnings);
    }
    let written = of(",keydata=0x6b6579").unwrap().sockets.remove(0);
    assert_eq!(written.warnings, [Warning::SecretInArgument("keydata")]);
    for (wrong, why) in [
        (format!(",keyfile={key}x"), "there is no such file"),
        (format!(",keyfile={open}"), "open"),
        (format!(",keyfile={empty}"), "there is no key in it"),
        (format!(",encryption=AES,keyfile={key},protocol=stream"), "agreed upon in Xpra's packets"),
        (format!(",keyfile={key},keydata=0x00"), "there is a key file too"),
        (",keydata=?".to_owned(), "it is no key"),
        (format!(",encryption=DES,keyfile={key}"), "there is no such cipher"),
    ] {
        let error = of(&wrong).unwrap_err();
        assert!(error.to_string().contains(why), "{wrong}: {error}");
    }
}

#[test]
fn s_088_a_key_that_is_written_is_shown_nowhere() {
    let mut layers = Layers::default();
    layers.flag("bind-tcp", "127.0.0.1:1,keydata=0x6b6579").unwrap();
    let shown = format!("{:?}", layers.effective(&Registry::builtin()));
    assert!(shown.contains("keydata=<set>") && !shown.contains("6b6579"), "{shown}");
    let config = flags(&["bind-tcp=127.0.0.1:1,keydata=0x6b6579"]).unwrap();
    let shown = format!("{config:?} {}", config.sockets[0].warnings[0]);
    assert!(!shown.contains("6b6579") && !shown.contains("107, 101, 121"), "{shown}");
}

#[test]
fn websocket_is_taken_where_first_bytes_tell_it_and_where_nothing_else_is() {
    let of = |bind: &str| flags(&[&format!("{bind},auth=none")]).unwrap().sockets.remove(0);
    for (bind, required) in [
        ("bind=/a", Some(false)),
        ("bind-tcp=:1", Some(false)),
        ("bind-ssl=:1", Some(false)),
        ("bind-ws=:1", Some(true)),
        ("bind-wss=:1", Some(true)),
        ("bind-ws=:1,protocol=stream", Some(true)),
        ("bind-wss=:1,protocol=xpra", Some(true)),
        ("bind-tcp=:1,websocket=no", None),
        ("bind-tcp=:1,protocol=stream", None),
        ("bind-ssl=:1,protocol=xpra,websocket=no", None),
        ("bind-rpc=:1", None),
    ] {
        assert_eq!(of(bind).websocket.map(|options| options.required), required, "{bind}");
    }
    let (ws, wss) = (of("bind-ws=:"), of("bind-wss=:"));
    assert_eq!((ws.place().as_str(), ws.accepts), ("ws:127.0.0.1:80", Accepts::Plain));
    assert_eq!((wss.place().as_str(), wss.accepts), ("wss:127.0.0.1:443", Accepts::Tls));
    let options = of("bind-ws=:1,websocket-path=/x,websocket-origins=https://a.example http://[::1]:8080")
        .websocket
        .unwrap();
    assert_eq!(options.path, "/x");
    assert!(options.allows("https://A.example") && options.allows("http://[::1]:8080"));
    assert!(!options.allows("https://a.example:8443") && !options.allows("") && !options.allows("null"));
    let quoted = of("bind-tcp=:1,websocket-origins=\"https://a,https://b\"").websocket.unwrap();
    assert_eq!((quoted.path.as_str(), quoted.origins.len()), ("/", 2));
}

#[test]
fn options_of_a_socket_that_are_wrong_or_of_no_use_to_it_are_errors() {
    for wrong in [
        "bind=/a,mode=888",
        "bind=/a,mode=1777",
        "bind=/a,mode=6",
        "bind=@a,mode=600",
        "bind=/a,owner=no-such-user-here",
        "bind=/a,group=4294967295",
        "bind=/a,group=-1",
        "bind=/a,protocols=plain,require-tls=yes",
        "bind-tcp=:1,protocols=ws",
        "bind-tcp=:1,protocol=ws",
        "bind-tcp=:1,protocol=stream,auth=none,websocket=yes",
        "bind-tcp=:1,protocol=xpra,websocket=yes",
        "bind-tcp=:1,websocket=no,websocket-path=/x",
        "bind-tcp=:1,websocket=no,websocket-origins=https://a",
        "bind-ws=:1,websocket=no",
        "bind-ws=:1,require-tls=yes",
        "bind-ws=:1,protocols=tls",
        "bind-ws=:1,ssl-cert=/x",
        "bind-ws=:1,tls-min=1.2",
        "bind-wss=:1,require-tls=yes",
        "bind-ws=:1,auth=certificate",
        "bind-ws=:1,websocket-path=x",
        "bind-ws=:1,websocket-path=",
        "bind-ws=:1,websocket-path=/a?b",
        "bind-ws=:1,websocket-origins=",
        "bind-ws=:1,websocket-origins=*",
        "bind-ws=:1,websocket-origins=null",
        "bind-ws=:1,websocket-origins=https://a/",
        "bind-ws=:1,websocket-origins=a.example",
        "bind-rpc=:1,auth=none,websocket=no",
        "bind-rpc=:1,auth=none,websocket-path=/",
        "bind=/a,ssl-cert=/x",
        "bind=/a,tls-min=1.2",
        "bind-tcp=:1,protocols=plain,ssl-cert=/x",
        "bind=/a,name=a:b",
        "bind=/a,name=\"\"",
        "bind=/a,protocol=rpc",
        "bind=/a,login-timeout=0",
        "bind=/a,login-timeout=never",
        "bind=/a,login-timeout=2d",
        "bind=/a,backend=dbb",
        "bind=/a,backend=tpc:h:1",
        "bind-tcp=:1,mode=600",
        "bind-tcp=:1,protocols=ws",
        "bind-tcp=:1,protocols=\"\"",
        "bind-tcp=:1,protocols=plain,require-tls=yes",
        "bind-tcp=:1,require-tls=perhaps",
        "bind-tcp=:1,tls-min=1.1",
        "bind-tcp=:1,ssl-key=/k",
        "bind-ssl=:1,require-tls=no",
        "bind-ssl=:1,protocols=tls",
        "bind-ssl=:1,starttls=postgres",
        "bind-ssl=:1,protocol=stream,starttls=smtp",
        "bind-tcp=:1,protocol=stream,starttls=postgres",
        "bind=/a,protocol=stream,starttls=postgres",
        "bind-rpc=:1,auth=none,mode=600",
        "bind-rpc=:1,auth=none,group=0",
        "bind-rpc=unix:@a,auth=none,mode=600",
        "bind-rpc=:1,auth=none,protocol=rpc",
        "bind-rpc=:1,auth=none,protocols=tls",
        "bind-rpc=:1,auth=none,require-tls=yes",
        "bind-rpc=:1,auth=none,backend=exec:/bin/cat",
        "bind-rpc=:1,auth=none,backend=xpra+unix:/x",
        "bind-rpc=:1,auth=env",
        "bind-rpc=/a,auth=none",
        "bind-rpc=none",
    ] {
        assert!(flags(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn clients_of_postgres_may_ask_for_tls_where_it_is_required() {
    for socket in [
        "bind-ssl=:1,protocol=stream,auth=none,starttls=postgres",
        "bind=/a,protocol=stream,auth=none,require-tls=yes,starttls=postgres",
        "bind-tcp=:1,protocol=stream,auth=none,require-tls=yes,starttls=Postgres",
    ] {
        let config = flags(&[socket]).unwrap();
        assert_eq!(config.sockets[0].starttls, Some(StartTls::Postgres), "{socket}");
    }
    assert_eq!(flags(&["bind-ssl=:1,protocol=stream,auth=none"]).unwrap().sockets[0].starttls, None);
}

#[test]
fn s_066_a_unix_socket_carries_tls_where_it_says_so_under_the_same_chain() {
    for (options, accepts) in [
        ("", Accepts::Plain),
        (",require-tls=no", Accepts::Plain),
        (",require-tls=yes,ssl-cert=/c,tls-min=1.2", Accepts::Tls),
        (",protocols=tls", Accepts::Tls),
        (",protocols=plain+tls,ssl-cert=/c", Accepts::PlainAndTls),
    ] {
        let config = flags(&[&format!("bind=/a,auth=pam{options}")]).unwrap();
        let socket = &config.sockets[0];
        assert_eq!((socket.accepts, modules(socket)), (accepts, vec!["pam"]), "{options}");
        // S-33: nobody else reads the socket, with TLS or without.
        assert_eq!(socket.warnings, [], "{options}");
    }
}

#[test]
fn s_065_a_chain_of_certificates_on_a_wire_without_tls_is_an_error() {
    for auth in ["certificate", "certificate(ca=/nonexistent)", "hosts,auth=certificate"] {
        for bind in ["bind=/a", "bind-tcp=*:1,protocols=plain"] {
            let error = flags(&[&format!("{bind},auth={auth}")]).unwrap_err();
            assert_eq!(error.fix(), "add require-tls=yes", "{bind} {auth}");
        }
    }
}

#[test]
fn calls_have_sockets_of_their_own() {
    let socket = |text: &str| flags(&[text]).unwrap().sockets.remove(0);
    let unix = socket("bind-rpc=unix:/a,auth=hosts,auth=peercred,mode=660,backend=unix:/b");
    assert_eq!((unix.kind, unix.protocol, unix.accepts), (Kind::Rpc, Protocol::Rpc, Accepts::Tls));
    assert_eq!((unix.place().as_str(), unix.unix.mode), ("rpc:unix:/a", 0o660));
    assert_eq!(modules(&unix), ["hosts", "peercred"]);
    let tcp = socket(
        "bind-rpc=localhost:,auth=hosts,backend=\"tls:h:1,pin=PIN\"".replace("PIN", &"a".repeat(64)).as_str(),
    );
    assert_eq!(tcp.place(), "rpc:127.0.0.1:50051");
    assert!(tcp.tls.allow_tls12, "Multipass's older clients speak 1.2");
    assert!(!socket("bind-rpc=:1,auth=hosts,tls-min=1.3").tls.allow_tls12);
    let usual = socket("bind-rpc=unix:/a");
    assert_eq!((modules(&usual), usual.trusts, usual.first_use.is_some()), (vec!["certificate"], true, true));
    assert!(socket("bind-rpc=:1").first_use.is_none() && socket("bind-rpc=unixbox:1").first_use.is_none());
    let config = flags(&["bind-rpc=auto", "rpc-auth=hosts", "rpc-auth=none"]).unwrap();
    assert_eq!(modules(&config.sockets[0]), ["hosts", "none"]);
    assert_eq!(toml("[[socket]]\nbind-rpc = ':1'\nauth = 'fail'").unwrap().sockets[0].kind, Kind::Rpc);
}

#[test]
fn s_057_the_first_client_comes_in_on_a_unix_socket_as_the_last_link() {
    let socket = |flag: &str| {
        let config = flags(&[flag]).unwrap();
        let socket = config.sockets.into_iter().next().unwrap();
        (socket.trusts, socket.first_use, socket.unix)
    };
    let (trusts, rule, unix) = socket("bind=/run/app.sock,require-tls=yes,group=0,auth=certificate");
    assert!(trusts && rule == Some(crate::trust::FirstUse::for_group(0)));
    assert_eq!((unix.mode, unix.group), (0o666, Some(0)));
    let (_, rule, unix) =
        socket("bind=/run/app.sock,require-tls=yes,mode=660,group=0,auth=hosts,auth=certificate");
    assert!(rule.is_some() && unix.mode == 0o660);
    let (trusts, rule, unix) = socket("bind=/run/app.sock,require-tls=yes,auth=certificate(first-use=no)");
    assert!(trusts && rule.is_none() && unix.mode == 0o600);
    let (trusts, rule, _) = socket("bind-ssl=127.0.0.1:1,auth=certificate");
    assert!(trusts && rule.is_none());
    // An address that only begins like one of a Unix socket (M12).
    let (_, rule, _) = socket("bind-ssl=unixbox:1,auth=certificate");
    assert!(rule.is_none());
    for wrong in [
        "bind=/run/app.sock,auth=certificate",
        "bind-tcp=127.0.0.1:1,protocols=plain,auth=certificate",
        "bind-ssl=127.0.0.1:1,auth=certificate(first-use=yes)",
        "bind=@app,require-tls=yes,auth=certificate(first-use=yes)",
        "bind=/run/app.sock,require-tls=yes,auth=certificate,auth=hosts",
        "bind=/run/app.sock,require-tls=yes,auth=certificate(first-use=perhaps)",
    ] {
        assert!(flags(&[wrong]).is_err(), "{wrong}");
    }
}

#[test]
fn s_083_hops_are_listed_where_a_proxy_may_stand_and_open_nothing() {
    let of = |bind: &str| flags(&[bind]);
    let kinds =
        ["bind-tcp=:1", "bind-ssl=:1", "bind-ws=:1", "bind-wss=:1", "bind-ssh=:1", "bind-rpc=:1", "bind=/a"];
    for kind in kinds.into_iter().filter(|kind| cfg!(feature = "ssh") || *kind != "bind-ssh=:1") {
        let config =
            of(&format!("{kind},auth=fail,accept-proxy=\"192.0.2.0/24, 2001:db8::1 uid:33\"")).unwrap();
        let hops = config.sockets[0].hops.as_ref().unwrap();
        assert_eq!(hops.to_string(), "192.0.2.0/24, 2001:db8::1, uid:33", "{kind}");
    }
    assert!(of("bind-tcp=:1,auth=none").unwrap().sockets[0].hops.is_none());
    for (bind, why) in [
        ("bind-vsock=any:1,auth=fail,accept-proxy=192.0.2.1", "only sockets of"),
        ("bind-tcp=:1,auth=fail,accept-proxy=\" , \"", "the list is empty"),
        ("bind-tcp=:1,auth=fail,accept-proxy=v2", "it is no address, network or uid"),
        ("bind-tcp=:1,auth=fail,accept-proxy=192.0.2.1/24", "bits behind its prefix"),
        // Nobody but the hop is near, however near that is.
        ("bind-tcp=127.0.0.1:1,accept-proxy=127.0.0.1", "its clients are anywhere"),
        ("bind=/a,accept-proxy=uid:33", "its clients are anywhere"),
        ("bind=/a,auth=peercred,accept-proxy=uid:33", "and nobody behind it"),
    ] {
        let error = of(bind).unwrap_err().to_string();
        assert!(error.contains(why), "{bind}: {error}");
    }
    // The mode that a first client finds depends on its kernel's word, which a hop has not.
    let first = of("bind-rpc=unix:/a,accept-proxy=uid:33").unwrap();
    assert!(first.sockets[0].first_use.is_none());
    let open = of("bind-tcp=127.0.0.1:1,auth=none,accept-proxy=127.0.0.1").unwrap();
    assert_eq!(open.sockets[0].warnings, [Warning::Open("none", Audience::Network)]);
}
