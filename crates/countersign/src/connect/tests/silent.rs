//! Servers that are told nothing of a login, and what those say who tell them.

use super::*;
use crate::config::Protocol;

#[tokio::test]
async fn nothing_is_said_where_the_server_is_told_nothing_and_bytes_pass() {
    let port = echo(Acceptor::of(&["none"]).unwrap().with_protocol(Protocol::Stream)).await;
    let connector = connector(&format!("tcp://127.0.0.1:{port}")).saying_nothing(true);
    let mut connected = connector.connect_and_say(b"first ").await.unwrap();
    assert!(connected.server.is_stream && connected.server.answered.is_empty());
    connected.stream.write_all(b"second").await.unwrap();
    connected.stream.shutdown().await.unwrap();
    let mut echoed = String::new();
    connected.stream.read_to_string(&mut echoed).await.unwrap();
    assert_eq!(echoed, "first second");
    // What looks like an Xpra client's hello is bytes like any other.
    for words in [&b"P\x01\0\0\0\0\0\x02xx"[..], b""] {
        let mut output = Vec::new();
        pass(&connector, words, &mut output).await.unwrap();
        assert_eq!(output, words);
    }
}

#[tokio::test]
async fn a_server_that_closes_without_a_byte_may_have_refused() {
    let port = listening(|socket, _| async move { drop(socket) }).await;
    let connector = connector(&format!("tcp://127.0.0.1:{port}")).saying_nothing(true);
    let (input, _held_open) = tokio::io::duplex(16);
    let error = pass(&connector, input, tokio::io::sink()).await.unwrap_err();
    assert_eq!(error.exit_code(), 69);
    assert!(error.to_string().contains("without a byte"), "{error}");
    assert!(error.fix().is_some_and(|fix| fix.contains("countersign authenticate")), "{:?}", error.fix());
    let error = refused(connector.requiring_auth(true)).await;
    assert_eq!(error.exit_code(), 2, "{error}");
}

#[tokio::test]
async fn a_daemon_that_does_not_understand_a_hello_may_want_to_be_told_nothing() {
    for answer in
        [&b""[..], b"-ERR unknown command\r\n", b"HTTP/1.1 400 Bad Request\r\n\r\n", b"{\"user\":\"x\"}\n"]
    {
        let port = listening(move |mut socket, _| async move {
            let mut hello = [0; 16];
            let _ = socket.read(&mut hello).await;
            let _ = socket.write_all(answer).await;
        });
        let error = refused(connector(&format!("tcp://127.0.0.1:{}", port.await))).await;
        let fix = error.fix().unwrap_or_default();
        assert!(fix.contains("--protocol stream"), "{:?}: {error}: {fix}", str::from_utf8(answer));
    }
    let port = echo(password()).await;
    let error = refused(connector(&format!("tcp://alice:wrong@127.0.0.1:{port}"))).await;
    assert!(!error.fix().unwrap_or_default().contains("--protocol"), "{error}");
}
