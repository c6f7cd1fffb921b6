//! Connection files: what they say, and what they cannot.

use std::os::unix::fs::PermissionsExt as _;

use super::*;

const CANARY: &str = "hunter2-canary";

fn parse(text: &str) -> ConnectionFile {
    ConnectionFile::parse(text).unwrap_or_else(|error| panic!("{text}: {error} / {}", error.fix()))
}

/// Address, user, password and display.
fn parts(file: &ConnectionFile) -> [String; 4] {
    let text = |value: Option<String>| value.unwrap_or_default();
    let password = file.password.as_ref().map(|secret| String::from_utf8(secret.expose().to_vec()).unwrap());
    let username = file.uri.username.as_ref().map(ToString::to_string);
    [file.uri.to_string(), text(username), text(password), text(file.uri.display.clone())]
}

#[test]
fn every_form_of_a_line_and_every_mode_is_read() {
    for (text, expected) in [
        ("mode=tcp\nhost=h\nport=1\n", ["tcp://h:1", "", "", ""]),
        ("mode=tcp\nhost=h", ["tcp://h:14500", "", "", ""]),
        ("mode=ssl\nhost=h\nport=0", ["tls://h:443", "", "", ""]),
        ("mode=ws\nhost=h\npath=/a/b", ["ws://h:80/a/b", "", "", ""]),
        ("mode=wss\nhost=h\npath=a\ndisplay=:10", ["wss://h:443/a", "", "", ":10"]),
        ("mode = SSL \r\n Host = h \r\nusername = alice \r\n", ["tls://h:443", "alice", "", ""]),
        ("# host=x\n! host=y\n\n  # host=z\nmode=tcp\nhost=h", ["tcp://h:14500", "", "", ""]),
        ("mode=tcp\nhost=ex\\\n  ample.org\nport=1\\\n2", ["tcp://example.org:12", "", "", ""]),
        ("mode=tcp\nhost=::1\nport=5", ["tcp://[::1]:5", "", "", ""]),
        ("mode=tcp\nhost=[::1]", ["tcp://[::1]:14500", "", "", ""]),
        ("mode=tcp\nhost=h\npath=100", ["tcp://h:14500", "", "", "100"]),
        // Nothing is decoded or cut: the value is what stands there.
        ("mode=tcp\nhost=h\nusername=a@b\npassword=p%41:@/?#=x", ["tcp://h:14500", "a@b", "p%41:@/?#=x", ""]),
        // As the launcher writes it.
        (
            "username=alice\npassword=\nhost=h\nport=10000\nmode=tcp\nssh_port=22\nencoding=auto\nquality=0\nmin-quality=30\n\
             speed=0\nmin-speed=30\nproxy_host=\nproxy_port=22\nproxy_username=alice\nproxy_key=\nproxy_password=\n\
             autoconnect=true\npath=\n",
            ["tcp://h:10000", "alice", "", ""],
        ),
    ] {
        let file = parse(text);
        assert_eq!(parts(&file), expected.map(str::to_owned), "{text}");
        assert!(file.notices.is_empty(), "{text}: {:?}", file.notices);
    }
}

#[test]
fn s_088_what_is_wrong_in_a_file_is_told_without_its_values() {
    let canary = CANARY;
    for (text, what, fix) in [
        ("".to_owned(), "host: it is missing", "write host=NAME"),
        ("host=h".to_owned(), "mode: it is missing", MODES),
        (format!("host=h\nmode=tcp {canary}"), "mode: there is no such one", MODES),
        ("host=h\nmode=quic".to_owned(), "quic: is not available", "tcp://HOST:PORT"),
        (format!("host=h\nmode=tcp\nport={canary}"), "port: it is no number", "write port=NUMBER"),
        ("host=h\nmode=tcp\nport=65536".to_owned(), "its port is no number from 1 to 65535", ""),
        ("host=h\nmode=tcp\nport=-1".to_owned(), "port: it is no number", ""),
        ("host=h\nhost=h\nmode=tcp".to_owned(), "host: it is given twice", "write it once"),
        (
            format!("host=h\nmode=tcp\npassword={canary}\npassword={canary}"),
            "password: it is given twice",
            "",
        ),
        (format!("host=h/{canary}\nmode=tcp"), "host: it is neither", ""),
        (format!("host=u:{canary}@h\nmode=tcp"), "host: it is neither", ""),
        (format!("host=h?password={canary}\nmode=tcp"), "host: it is neither", ""),
        (format!("host=h\nmode=ws\npath=a?password={canary}"), "path: it holds", ""),
        (format!("host=h\nmode=ws\npath=a,exec={canary}"), "an address sets host", ""),
        (format!("host=h\nmode=tcp\ndisplay=\u{1b}{canary}"), "display: it holds a control", "remove it"),
        ("host=h\nmode=tcp\nusername=-rf".to_owned(), "", "write another name"),
    ] {
        let error = ConnectionFile::parse(&text).unwrap_err();
        let told = format!("{error} / {} {error:?}", error.fix());
        assert!(told.contains(what) && told.contains(fix) && !told.contains(canary), "{text}: {told}");
    }
    let file = parse(&format!("mode=tcp\nhost=h\npassword={canary}\n{canary}\n{canary} x={canary}"));
    assert!(!format!("{file:?}").contains(canary));
    assert_eq!(file.notices.len(), 2);
    assert!(
        file.notices.iter().all(|notice| notice.contains("line ") && !notice.contains(canary)),
        "{:?}",
        file.notices
    );
}

/// Every option of Xpra's client and server and of ours that runs, reads, trusts or weakens something.
#[test]
fn s_047_a_connection_file_sets_no_option_by_any_name() {
    let base = "mode=tcp\nhost=h\nport=1\nusername=alice\n";
    let plain = parse(base);
    for name in OPTIONS.split_whitespace() {
        for spelt in [name.to_owned(), name.replace('-', "_"), name.to_uppercase(), format!(" {name} ")] {
            let file = parse(&format!("{base}{spelt}=/bin/sh -c 'touch {CANARY}'\n"));
            assert_eq!(parts(&file), parts(&plain), "{spelt}");
            let [notice] = &file.notices[..] else { panic!("{spelt}: {:?}", file.notices) };
            assert!(notice.starts_with(&format!("line 5: `{name}` is not taken from a file")), "{notice}");
        }
    }
    // What the launcher always writes is passed over without a word, and does as little.
    for name in IDLE {
        let file = parse(&format!("{base}{name}={CANARY}\n"));
        assert_eq!((parts(&file), file.notices.len()), (parts(&plain), 0), "{name}");
    }
    let taken: Vec<&&str> =
        TAKEN.iter().filter(|taken| OPTIONS.split_whitespace().any(|name| name == **taken)).collect();
    assert!(taken.is_empty(), "{taken:?}");
}

#[test]
fn the_path_of_a_file_is_told_from_an_address() {
    for named in ["a.xpra", "./a.XPRA", "/home/alice/a.xpra", "dir/a b.xpra"] {
        assert!(ConnectionFile::is_named(named), "{named}");
    }
    for address in [".xpra", "a.xpr", "", "tcp://host/a.xpra", "unix:/run/a.xpra", "tcp:a.xpra", "é.xpré"] {
        assert!(!ConnectionFile::is_named(address), "{address}");
    }
}

#[test]
fn a_password_that_others_can_read_is_told_and_what_is_no_file_is_an_error() {
    let place = tempfile::tempdir().unwrap();
    let path = place.path().join("a.xpra");
    std::fs::write(&path, "mode=tcp\nhost=h\npassword=x\n").unwrap();
    for (mode, notices) in [(0o644, 1), (0o600, 0)] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        let file = ConnectionFile::read(&path).unwrap();
        assert_eq!(file.notices.len(), notices, "{mode:o}: {:?}", file.notices);
    }
    for (name, content) in [("long.xpra", "#".repeat(65_537)), ("wrong.xpra", "host=h".to_owned())] {
        std::fs::write(place.path().join(name), content).unwrap();
        let error = ConnectionFile::read(&place.path().join(name)).unwrap_err();
        assert!(error.to_string().contains(name), "{error}");
    }
    std::fs::write(place.path().join("bytes.xpra"), b"\xff\xfe").unwrap();
    for name in ["bytes.xpra", "missing.xpra", ""] {
        let error = ConnectionFile::read(&place.path().join(name)).unwrap_err();
        assert!(error.to_string().contains("it cannot be read"), "{error}");
    }
}

/// The names that Xpra 3.1 to 6 and this program have for switches.
const OPTIONS: &str = "challenge-handlers password-file ssh ssl exec exec-wrapper start start-child start-after-connect \
    start-child-after-connect start-on-connect start-child-on-connect start-on-last-client-exit \
    start-child-on-last-client-exit start-env start-new-commands source source-start env load open-command open-files \
    open-url remote-xpra pulseaudio-command pulseaudio-configure-commands xvfb input-method systemd-run \
    systemd-run-args chdir socket-dir socket-dirs system-proxy-socket socket-permissions bind bind-tcp bind-ssl \
    bind-ssh bind-ws bind-wss bind-vsock bind-rfb bind-rdp bind-quic auth tcp-auth ssl-auth ssh-auth ws-auth wss-auth \
    vsock-auth rfb-auth rdp-auth quic-auth encryption encryption-keyfile tcp-encryption tcp-encryption-keyfile \
    tcp-proxy ssl-key ssl-cert ssl-protocol ssl-ca-certs ssl-ca-data ssl-ciphers ssl-client-verify-mode \
    ssl-server-verify-mode ssl-verify-flags ssl-check-hostname ssl-server-hostname ssl-options ssh-upgrade \
    ssh-key ssh-key-file ssh-agent start-via-proxy proxy-start-sessions proxy-command proxy-password-file display-name \
    file-transfer printing lpadmin lpinfo clipboard-filter-file log-dir log-file pidfile daemon daemonize displayfd \
    uid gid mmap mmap-group html mdns opengl webcam dbus-launch dbus-proxy dbus-control attach wait sessions-dir \
    add-printer-options client-socket-dirs terminate-children server-idle-timeout reconnect debug packet-encoders \
    compressors minimal backend gateway session-name title tray-icon keyboard-sync sharing readonly windows border \
    socket socket-path proxy proxy-exec command handler handlers url uri address ca pin cert key known-servers \
    trust-on-first-use require-auth require-encryption listen protocol config state-dir log-level user include import";
