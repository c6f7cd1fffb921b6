//! Keys and certificates of the clients and daemons in the tests, made by `openssl`.

use std::{fs, os::unix::fs::PermissionsExt, path::Path, process::Command};

use crate::{Place, account::Account, process::must};

/// A certificate and its private key, as the names of two PEM files.
#[derive(Debug, Clone)]
pub struct Pair {
    /// The certificate.
    pub cert: String,
    /// Its key, unencrypted.
    pub key: String,
}

impl Pair {
    /// A certificate that vouches for itself, as a Multipass client makes one: P-256, a name of no meaning.
    #[must_use]
    pub fn of_client(place: &Place, name: &str) -> Self {
        Self::self_signed(place, name, &["basicConstraints=critical,CA:FALSE"])
    }

    /// A certificate for `localhost` that vouches for itself.
    #[must_use]
    pub fn of_localhost(place: &Place, name: &str) -> Self {
        Self::self_signed(
            place,
            name,
            &[
                "subjectAltName=DNS:localhost,IP:127.0.0.1",
                "keyUsage=digitalSignature",
                "basicConstraints=critical,CA:FALSE",
            ],
        )
    }

    /// A certificate that signs others.
    #[must_use]
    pub fn of_authority(place: &Place, name: &str) -> Self {
        Self::self_signed(
            place,
            name,
            &["basicConstraints=critical,CA:TRUE", "keyUsage=critical,keyCertSign,cRLSign"],
        )
    }

    /// A client certificate for `name`, signed by this authority.
    #[must_use]
    pub fn signed_by(authority: &Self, place: &Place, name: &str) -> Self {
        Self::signed_for(authority, place, name, "clientAuth")
    }

    /// A server certificate for `name`, signed by this authority.
    #[must_use]
    pub fn of_server(authority: &Self, place: &Place, name: &str) -> Self {
        Self::signed_for(authority, place, name, "serverAuth")
    }

    fn signed_for(authority: &Self, place: &Place, name: &str, usage: &str) -> Self {
        let pair = Self::at(place, name);
        let (request, extensions) = (place.text(&format!("{name}.csr")), place.text(&format!("{name}.ext")));
        must(
            Command::new("openssl")
                .args(["req", "-new", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes"])
                .args(["-subj", &format!("/CN={name}"), "-keyout", &pair.key, "-out", &request]),
        );
        place.file(
            &format!("{name}.ext"),
            format!(
                "basicConstraints=critical,CA:FALSE\nextendedKeyUsage={usage}\nsubjectAltName=DNS:{name}\n"
            ),
        );
        must(Command::new("openssl").args(["x509", "-req", "-days", "2", "-in", &request]).args([
            "-CA",
            &authority.cert,
            "-CAkey",
            &authority.key,
            "-CAcreateserial",
            "-extfile",
            &extensions,
            "-out",
            &pair.cert,
        ]));
        pair
    }

    /// Client certificates in every shape that some version of Multipass has made, with the shape's name.
    #[must_use]
    pub fn of_every_shape() -> Vec<(String, Self)> {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../crates/countersign/tests/certificates");
        let files = fs::read_dir(&folder).expect("the folder of certificates").flatten();
        let mut shapes: Vec<_> = files
            .filter_map(|file| {
                let name = file.file_name().into_string().ok()?;
                let shape = name.strip_suffix("_key.pem")?;
                let path = |name: String| folder.join(name).to_str().expect("a UTF-8 path").to_owned();
                Some((shape.to_owned(), Self { cert: path(format!("{shape}.pem")), key: path(name.clone()) }))
            })
            .collect();
        shapes.sort_by(|(one, _), (other, _)| one.cmp(other));
        assert!(shapes.len() >= 7, "{} holds {} shapes", folder.display(), shapes.len());
        shapes
    }

    /// Gives the key to a local account. The key stays its owner's alone.
    pub fn give_to(&self, account: &Account) {
        let (uid, gid) = (account.uid.into(), account.gid.into());
        nix::unistd::chown(self.key.as_str(), Some(uid), Some(gid)).expect("root gives its file away");
    }

    fn self_signed(place: &Place, name: &str, extensions: &[&str]) -> Self {
        let pair = Self::at(place, name);
        let mut command = Command::new("openssl");
        command.args(["req", "-x509", "-newkey", "ec", "-pkeyopt", CURVE, "-nodes", "-days", "2"]);
        command.args(["-subj", &format!("/CN={name}"), "-keyout", &pair.key, "-out", &pair.cert]);
        for extension in extensions {
            command.args(["-addext", extension]);
        }
        must(&mut command);
        // Certificates are no secret, and other accounts of a test read them.
        fs::set_permissions(&pair.cert, fs::Permissions::from_mode(0o644)).expect("an own file");
        pair
    }

    fn at(place: &Place, name: &str) -> Self {
        Self { cert: place.text(&format!("{name}.pem")), key: place.text(&format!("{name}_key.pem")) }
    }
}

const CURVE: &str = "ec_paramgen_curve:P-256";
