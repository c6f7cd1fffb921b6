//! One row for each form that Xpra's pages and versions know, and what becomes of it.

use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::*;
use crate::config::tests::{registry, told};

/// A module in one line: `file filename=/etc/pw prompt=PIN`.
fn line(spec: &ModuleSpec) -> String {
    spec.options().fold(spec.name().to_owned(), |line, (key, value)| format!("{line} {key}={value}"))
}

fn switch(text: &str) -> Result<String, ConfigError> {
    ModuleSpec::parse(text, &registry()).map(|spec| line(&spec))
}

fn bind(text: &str) -> Result<Vec<String>, ConfigError> {
    SocketSpec::parse(text, &registry()).map(|spec| spec.auth().iter().map(line).collect())
}

#[test]
fn every_form_of_a_module_is_read_on_sockets_and_in_switches() {
    for (text, meaning) in [
        ("env", "env"),
        (" ENV ", "env"),
        ("env()", "env"),
        ("env( )", "env"),
        ("file(filename=/etc/pw)", "file filename=/etc/pw"),
        ("file (filename=/etc/pw)", "file filename=/etc/pw"),
        ("file( filename = /etc/pw , prompt = a b )", "file filename=/etc/pw prompt=a b"),
        ("file(filename=\"/etc/a,b\")", "file filename=/etc/a,b"),
        ("file(filename=\"\")", "file filename="),
        ("file:filename=/etc/pw", "file filename=/etc/pw"),
        ("file:filename=p:prompt=PIN", "file filename=p prompt=PIN"),
        ("file:filename=\"p:prompt=x\":prompt=PIN", "file filename=p:prompt=x prompt=PIN"),
        ("file:FileName=p", "file filename=p"),
        ("file:client_username=yes", "file client-username=yes"),
        // The value of `mod:opt=val:opt2=val` where opt2 is no option.
        ("password:value=a:b=c", "password value=a:b=c"),
        ("peercred:uid=$UID:fred", "peercred uid=$UID:fred"),
        ("multifile:filename=C:\\a", "multifile filename=C:\\a"),
        ("multifile(filename=C:\\a\\b)", "multifile filename=C:\\a\\b"),
        ("multifile(filename=\"C:\\\\a\")", "multifile filename=C:\\a"),
        ("password(value=a=b:c)", "password value=a=b:c"),
        ("password(value=\"a\\\"b\\,c\")", "password value=a\"b,c"),
        ("password(value=f(g(x),y))", "password value=f(g(x),y)"),
        ("ldap(username-format=\"cn=%u,dc=example\")", "ldap username-format=cn=%u,dc=example"),
        ("password(value=é€)", "password value=é€"),
    ] {
        assert_eq!(switch(text).as_deref(), Ok(meaning), "{text}");
        assert_eq!(bind(&format!(":1,auth={text}")), Ok(vec![meaning.to_owned()]), "{text}");
    }
}

#[test]
fn the_comma_form_gives_options_to_the_module_before() {
    assert_eq!(switch("file,filename=/etc/pw").as_deref(), Ok("file filename=/etc/pw"));
    assert_eq!(switch("file:filename=/etc/pw,prompt=PIN").as_deref(), Ok("file filename=/etc/pw prompt=PIN"));
    assert_eq!(
        switch("file(filename=/etc/pw),prompt=PIN").as_deref(),
        Ok("file filename=/etc/pw prompt=PIN")
    );
    assert_eq!(switch("env,name=X").as_deref(), Ok("env name=X"));
    for (text, meaning) in [
        (":1,auth=file,filename=a", &["file filename=a"][..]),
        (":1,auth=file:filename=a,prompt=PIN", &["file filename=a prompt=PIN"]),
        (":1,auth=file,filename=a,mode=600,prompt=PIN", &["file filename=a prompt=PIN"]),
        (":1,auth=hosts,auth=file,filename=a", &["hosts", "file filename=a"]),
        (":1,auth=multifile:filename=a,auth=file:filename=b", &["multifile filename=a", "file filename=b"]),
    ] {
        let meaning: Vec<String> = meaning.iter().map(|&text| text.to_owned()).collect();
        assert_eq!(bind(text), Ok(meaning), "{text}");
    }
    // `name` and `group` are options of sockets too.
    for ambiguous in [":1,auth=env,name=X", ":1,auth=peercred,group=x"] {
        let error = bind(ambiguous).unwrap_err();
        assert!(error.fix().starts_with("write auth="), "{}", told(&error));
    }
    assert_eq!(bind(":1,name=X,auth=env"), Ok(vec!["env".to_owned()]));
}

#[test]
fn s_065_anything_unclear_is_an_error_that_says_where() {
    for (text, why, character) in [
        ("", "the address is missing", 1),
        (",auth=env", "the address is missing", 1),
        (":1,auth", "an item has no `=`", 4),
        (":1, auth ", "an item has no `=`", 5),
        (":1,#auth=env", "no comments", 4),
        (":1,", "an item is empty", 4),
        (":1,auth=", "a value is missing", 9),
        (":1,auth=(a=b)", "a module's name is expected", 9),
        (":1,auth=\"env\"", "a module's name is expected", 9),
        (":1,auth=env name", "is not understood", 13),
        (":1,auth=env[name=X]", "is not understood", 12),
        (":1,auth=env(name)", "an item has no `=`", 13),
        (":1,auth=env(X)", "an item has no `=`", 13),
        (":1,auth=env(name=)", "a value is missing", 18),
        (":1,auth=env(name=a,)", "an item is empty", 20),
        (":1,auth=env(name=a)b", "something follows the closing bracket", 12),
        (":1,auth=env(name=a)(name=b)", "a bracket is closed", 19),
        (":1,auth=env(name=a", "a bracket is not closed", 12),
        (":1,auth=env)", "a bracket is closed", 12),
        (":1,auth=env:", "an item is empty", 13),
        (":1,auth=env:name", "an item has no `=`", 13),
        (":1,auth=file:filename=a:filename", "", 0),
        (":1,auth=env(name=\"a)", "a quote is not closed", 18),
        (":1,auth=env(name=\"a\"b)", "something follows the closing quote", 21),
        (":1,auth=env(name=a\"b\")", "a quote stands in the middle", 19),
        (":1,auth=env(name=\"C:\\temp\")", "a lone backslash", 21),
        (":1,auth=password:value=a,b", "an item has no `=`", 26),
        (":1,mode=1,mode=2", "option mode is given twice", 11),
        (":1,é=x", "an unknown name", 4),
        ("é:1,auth", "an item has no `=`", 5),
        (":1,auth=file,filenam=x", "there is no `filenam`", 14),
        (":1,filename=x", "an unknown name", 4),
    ] {
        let read = bind(text);
        if character == 0 {
            assert_eq!(read, Ok(vec!["file filename=a:filename".to_owned()]), "{text}");
            continue;
        }
        let error = read.unwrap_err().to_string();
        assert!(error.contains(why), "{text}: {error}");
        assert!(error.ends_with(&format!("(at character {character})")), "{text}: {error}");
    }
    for text in
        ["", " ", "hosts,file", "file,", "file:filename", "file,filename", "tcp-nothing", "env,mode=600"]
    {
        assert!(switch(text).is_err(), "{text}");
    }
}

#[test]
fn the_nearest_right_name_is_told_and_what_is_no_name_is_not_repeated() {
    let error = bind(":1,auth=pasword(value=x)").unwrap_err();
    assert_eq!(error.fix(), "did you mean `password`?");
    let error = bind(":1,requiretls=yes").unwrap_err();
    assert_eq!(error.fix(), "did you mean `require-tls`?");
    let error = bind(":1,auth=password(value=abc,qqqqqqqq=1)").unwrap_err();
    assert!(!told(&error).contains("qqqq"), "{}", told(&error));
    assert!(error.fix().starts_with("use one of: value, prompt"), "{}", told(&error));
}

#[test]
fn the_example_of_every_module_is_read_in_both_places() {
    let registry = Registry::builtin();
    for module in registry.modules() {
        let example = module.example();
        let spec = ModuleSpec::parse(example, &registry).unwrap();
        assert_eq!(spec.name(), module.name(), "{example}");
        let socket = SocketSpec::parse(&format!("/a,auth={example}"), &registry).unwrap();
        assert_eq!(socket.auth(), [spec], "{example}");
    }
}

#[test]
fn s_088_a_spec_prints_without_the_values_of_its_modules() {
    let spec = SocketSpec::parse(
        ":1,backend=exec:/bin/run --token=x,mode=600,auth=password(value=x,prompt=y)",
        &registry(),
    );
    let spec = spec.unwrap();
    assert_eq!(
        spec.to_string(),
        ":1,backend=exec:/bin/run,mode=600,auth=password(value=<set>, prompt=<set>)"
    );
    assert_eq!(format!("{spec:?}"), format!("SocketSpec({spec})"));
    assert_eq!(format!("{:?}", spec.auth()[0]), "ModuleSpec(password(value=<set>, prompt=<set>))");
}

#[test]
fn long_and_hostile_texts_are_read_once() {
    let started = Instant::now();
    for pattern in [
        "(",
        ")",
        "\"",
        "\\",
        ",",
        ":",
        "=",
        ":a",
        ":name",
        ":name=",
        "a=b,",
        "(a=",
        "\"(",
        ":filename=a",
        "auth=env,",
        "#",
        "é",
    ] {
        let long = pattern.repeat(100_000);
        for text in [
            format!(":1,auth=env{long}"),
            format!(":1,auth=file:filename={long}"),
            long.clone(),
            format!(":1,{long}=x"),
        ] {
            let _ = SocketSpec::parse(&text, &registry());
            let _ = ModuleSpec::parse(&text, &registry());
        }
    }
    // Minutes, if any of these were quadratic.
    assert!(started.elapsed() < Duration::from_secs(30), "{:?}", started.elapsed());
}

fn module_spec() -> impl Strategy<Value = ModuleSpec> {
    let registry = registry();
    let found = registry.modules().map(|module| registry.find(module.name()).unwrap());
    let names: Vec<_> =
        found.map(|module| (module.name(), option_names(module).collect::<Vec<_>>())).collect();
    (
        any::<prop::sample::Index>(),
        prop::collection::vec((any::<prop::sample::Index>(), any::<String>()), 0..4),
    )
        .prop_map(move |(module, options)| {
            let (name, keys) = module.get(&names).clone();
            let options =
                options.into_iter().map(|(key, value)| ((*key.get(&keys)).to_owned(), Zeroizing::new(value)));
            ModuleSpec { name, options: options.collect() }
        })
}

fn socket_spec() -> impl Strategy<Value = SocketSpec> {
    let names = SOCKET_OPTIONS.iter().map(|option| option.spec.name).filter(|name| *name != "auth");
    let settings =
        prop::collection::btree_map(prop::sample::select(names.collect::<Vec<_>>()), any::<String>(), 0..4);
    ("[^ ].{0,20}", prop::collection::vec(module_spec(), 0..3), settings).prop_map(
        |(address, auth, settings)| {
            let settings = settings.into_iter().map(|(name, value)| (name, Zeroizing::new(value)));
            SocketSpec { address, auth, settings: settings.collect() }
        },
    )
}

proptest! {
    #[test]
    fn what_is_printed_is_read_again_as_the_same(socket in socket_spec(), module in module_spec()) {
        prop_assert_eq!(SocketSpec::parse(&socket.expose(), &registry()).unwrap(), socket);
        prop_assert_eq!(ModuleSpec::parse(&module.expose(), &registry()).unwrap(), module);
    }

    #[test]
    fn no_text_makes_it_panic(text in ".*", marks in "[a:=,()\"\\\\# é]{0,40}") {
        for text in [&text, &marks, &format!(":1,auth=file{marks}"), &format!(":1,auth=file(filename={marks})")] {
            let _ = SocketSpec::parse(text, &registry());
            let _ = ModuleSpec::parse(text, &registry());
        }
    }
}
