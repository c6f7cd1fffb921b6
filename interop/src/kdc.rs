//! A real Kerberos realm: MIT's KDC on loopback, with a second realm that the first one trusts.

use std::{
    process::Command,
    time::{SystemTime, UNIX_EPOCH},
};

use crate::{
    Place,
    net::{free_port, wait_for_tcp},
    process::{Daemon, Finished, must, program, run, run_with_input},
};

/// A running KDC of the realms `EXAMPLE.TEST` and `OTHER.TEST`.
///
/// `alice` and `bob` have accounts in both, with the password [`password`]; the services [`SERVICES`] are in the first,
/// their keys in [`Kdc::keytab`].
#[derive(Debug)]
pub struct Kdc {
    port: u16,
    place: Place,
    daemon: Option<Daemon>,
}

impl Kdc {
    /// Makes both realms and starts the KDC.
    #[must_use]
    pub fn start() -> Self {
        let kdc = Self { port: free_port(), place: Place::new(), daemon: None };
        kdc.write_configuration();
        for realm in [REALM, OTHER] {
            must(kdc.tool("kdb5_util").args(["create", "-s", "-r", realm, "-P", "master"]));
            let accounts =
                USERS.map(|user| format!("addprinc -clearpolicy -pw {} {user}\n", password(user, realm)));
            let trust = format!("addprinc -clearpolicy -pw between krbtgt/{REALM}@{OTHER}\n");
            kdc.admin(realm, &format!("{}{trust}", accounts.concat()));
        }
        for service in SERVICES {
            let keytab = kdc.keytab();
            kdc.admin(
                REALM,
                &format!("addprinc -clearpolicy -randkey {service}\nktadd -k {keytab} {service}\n"),
            );
        }
        kdc.serving()
    }

    fn serving(mut self) -> Self {
        let mut command = program("krb5kdc");
        command.args(["-n", "-r", REALM, "-r", OTHER]).args(["-P", &self.place.text("pid")]);
        self.reach(&mut command);
        let daemon = Daemon::start(command);
        wait_for_tcp(&daemon, self.port);
        self.daemon = Some(daemon);
        self
    }

    /// The port, on TCP alone.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// The keys of the services.
    #[must_use]
    pub fn keytab(&self) -> String {
        self.place.text("keytab")
    }

    /// Writes a keytab with the key of one principal alone.
    #[must_use]
    pub fn keytab_of(&self, principal: &str) -> String {
        let keytab = self.place.text(&principal.replace('/', "-"));
        self.admin(REALM, &format!("ktadd -norandkey -k {keytab} {principal}\n"));
        keytab
    }

    /// A `krb5.conf` of a machine in the realm, with these more lines under `libdefaults`.
    pub fn configuration(&self, name: &str, port: u16, more: &str) -> String {
        let realm = |realm: &str| format!(" {realm} = {{\n  kdc = 127.0.0.1:{port}\n }}\n");
        // TCP alone; names of hosts as they are written, because no name server is asked.
        let text = format!(
            "[libdefaults]\n default_realm = {REALM}\n dns_lookup_kdc = false\n dns_lookup_realm = false\n \
             dns_canonicalize_hostname = false\n rdns = false\n udp_preference_limit = 1\n \
             default_keytab_name = FILE:{}\n{more}[realms]\n{}{}[domain_realm]\n localhost = {REALM}\n\
             [capaths]\n {OTHER} = {{\n  {REALM} = .\n }}\n",
            self.keytab(),
            realm(REALM),
            realm(OTHER),
        );
        self.place.file(name, text)
    }

    fn write_configuration(&self) {
        self.configuration("krb5.conf", self.port, "");
        let realm = |realm: &str| {
            let [database, stash] =
                ["principal", "stash"].map(|name| self.place.text(&format!("{realm}.{name}")));
            format!(
                " {realm} = {{\n  database_name = {database}\n  key_stash_file = {stash}\n  max_life = 1h\n  \
                 supported_enctypes = aes256-cts-hmac-sha1-96:normal\n }}\n"
            )
        };
        let port = self.port;
        let text = format!(
            "[kdcdefaults]\n kdc_listen = \"\"\n kdc_tcp_listen = 127.0.0.1:{port}\n[realms]\n{}{}\
             [logging]\n kdc = STDERR\n",
            realm(REALM),
            realm(OTHER),
        );
        self.place.file("kdc.conf", text);
    }

    /// Runs lines of `kadmin.local` in a realm.
    pub fn admin(&self, realm: &str, lines: &str) {
        let finished = run_with_input(self.tool("kadmin.local").args(["-r", realm]), lines.as_bytes());
        let finished = finished.expect_success();
        assert!(!finished.stderr.contains("while"), "kadmin.local: {lines}\n{}", finished.stderr);
    }

    /// Gets a ticket for this principal into a cache of its own, as `kinit` does with these arguments more.
    ///
    /// # Panics
    /// If the KDC refuses.
    #[must_use]
    pub fn kinit(&self, principal: &str, password: &str, more: &[&str]) -> Tickets {
        let name = principal.replace(['/', '@'], "-");
        let tickets = Tickets {
            cache: format!("FILE:{}", self.place.text(&format!("cache-{name}"))),
            configuration: self.place.text("krb5.conf"),
        };
        let finished = tickets.try_kinit(principal, password, more);
        drop(finished.expect_success());
        tickets
    }

    /// Whoever has no ticket.
    #[must_use]
    pub fn nobody(&self) -> Tickets {
        Tickets {
            cache: format!("FILE:{}", self.place.text("no-cache")),
            configuration: self.place.text("krb5.conf"),
        }
    }

    /// Gives a command the realm, its keytab, and a replay cache that no other test has.
    pub fn reach(&self, command: &mut Command) {
        self.reach_by(&self.own_configuration(), command);
    }

    /// The same, by another `krb5.conf`.
    pub fn reach_by(&self, configuration: &str, command: &mut Command) {
        command.envs(self.environment(configuration)).env_remove("KRB5_KTNAME").env_remove("KRB5CCNAME");
    }

    /// The environment of a service in the realm.
    #[must_use]
    pub fn environment(&self, configuration: &str) -> Vec<(&'static str, String)> {
        vec![
            ("KRB5_CONFIG", configuration.to_owned()),
            ("KRB5_KDC_PROFILE", self.place.text("kdc.conf")),
            ("KRB5RCACHEDIR", self.place.text("")),
            ("PATH", PATH.to_owned()),
        ]
    }

    /// The `krb5.conf` of a machine in the realm.
    #[must_use]
    pub fn own_configuration(&self) -> String {
        self.place.text("krb5.conf")
    }

    fn tool(&self, name: &str) -> Command {
        let mut command = Command::new("env");
        command.arg(name);
        self.reach(&mut command);
        command
    }
}

/// Somebody's tickets.
#[derive(Clone, Debug)]
pub struct Tickets {
    cache: String,
    configuration: String,
}

impl Tickets {
    /// The same tickets by another `krb5.conf`.
    #[must_use]
    pub fn by(&self, configuration: &str) -> Self {
        Self { configuration: configuration.to_owned(), ..self.clone() }
    }

    /// Asks for a ticket.
    pub fn try_kinit(&self, principal: &str, password: &str, more: &[&str]) -> Finished {
        let mut command = Command::new("kinit");
        self.carry(&mut command);
        command.args(["-c", &self.cache]).args(more).arg(principal);
        run_with_input(&mut command, format!("{password}\n").as_bytes())
    }

    /// Has whoever uses these tickets believe that they last an hour longer than they do: that stands beside them in
    /// the cache, in the clear (MIT's file format, version 4). What the KDC wrote into a ticket stays as it is.
    ///
    /// # Panics
    /// If there is no ticket in the cache.
    pub fn pretend_to_last(&self) {
        let path = self.cache.strip_prefix("FILE:").expect("a cache in a file");
        let mut bytes = std::fs::read(path).expect("a cache");
        let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("a clock after 1970").as_secs();
        let number = |bytes: &[u8]| u64::from(u32::from_be_bytes(bytes.try_into().expect("four bytes")));
        // When one was logged in, from when and until when the ticket counts.
        let is_times = |at: &[u8]| {
            let [login, start, end] = [0, 4, 8].map(|from| number(&at[from..from + 4]));
            now.abs_diff(login) < 60 && login <= start && start < end && end < start + 60
        };
        let found: Vec<usize> =
            (0..bytes.len().saturating_sub(12)).filter(|at| is_times(&bytes[*at..at + 12])).collect();
        assert!(!found.is_empty(), "no ticket of a minute or less in {path}");
        for at in found {
            let later = u32::try_from(number(&bytes[at + 8..at + 12]) + 3600).expect("before 2106");
            bytes[at + 8..at + 12].copy_from_slice(&later.to_be_bytes());
        }
        std::fs::write(path, bytes).expect("the same file");
    }

    /// Gives a command these tickets.
    pub fn carry(&self, command: &mut Command) {
        command.envs(self.environment());
    }

    /// The environment of somebody who has these tickets.
    #[must_use]
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        vec![("KRB5CCNAME", self.cache.clone()), ("KRB5_CONFIG", self.configuration.clone())]
    }

    /// A token for a service, `NAME/HOST`, made by another program than ours: Python's GSSAPI, as Xpra has it.
    #[must_use]
    pub fn token(&self, service: &str) -> Vec<u8> {
        let mut command = Command::new("/usr/bin/python3");
        self.carry(&mut command);
        let finished = run(command.args(["-c", TOKEN, service])).expect_success();
        let digits: Vec<u8> = finished.stdout.trim().bytes().collect();
        let byte = |pair: &[u8]| u8::from_str_radix(std::str::from_utf8(pair).expect("hexadecimal"), 16);
        digits.chunks(2).map(|pair| byte(pair).expect("hexadecimal")).collect()
    }
}

/// The password of a user of a realm.
#[must_use]
pub fn password(user: &str, realm: &str) -> String {
    format!("{user}-at-{realm}")
}

/// The realm of the machine.
pub const REALM: &str = "EXAMPLE.TEST";

/// A realm that the machine's trusts.
pub const OTHER: &str = "OTHER.TEST";

/// The services that have keys.
pub const SERVICES: [&str; 3] = ["countersign/localhost", "xpra/localhost", "host/localhost"];

const USERS: [&str; 2] = ["alice", "bob"];

/// Debian keeps the servers' programs off a user's search path.
const PATH: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

const TOKEN: &str = "
import sys, gssapi
name = gssapi.Name(sys.argv[1], gssapi.NameType.kerberos_principal)
print(gssapi.SecurityContext(name=name, usage='initiate').step().hex())
";
