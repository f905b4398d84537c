//! Why a broker and a client do not come together, by the words of librdkafka, OpenSSL and the broker; and what to change then.

/// Words of a complaint, and what to do about it. The first that fits is taken: what names a cause is before what only names an area.
const ADVICE: [(&[&str], &str); 16] = [
    (
        &["is for another name"],
        "give --brokers the names that are in the certificate",
    ),
    (&["is not of an authority"], "check ssl.ca.location"),
    (
        &["hostname mismatch", "ip address mismatch"],
        "the broker's certificate is for another name: give --brokers the names that are in it",
    ),
    (
        &[
            "unable to get local issuer",
            "unable to get issuer",
            "self-signed",
            "self signed",
        ],
        "the broker's certificate is not of an authority that is known here: check ssl.ca.location",
    ),
    (
        &[
            "certificate verify failed: broker certificate could not be verified",
            "certificate verify failed",
        ],
        "the broker's certificate is not of an authority in ssl.ca.location, or it is for another name than that in --brokers",
    ),
    (
        &["alert certificate expired"],
        "this client's certificate has expired: renew the file of ssl.certificate.location",
    ),
    (
        &["certificate has expired"],
        "the broker's certificate has expired: have it renewed",
    ),
    (
        &[
            "alert certificate required",
            "alert handshake failure",
            "alert bad certificate",
            "alert unknown ca",
            "alert certificate unknown",
        ],
        "the broker wants a certificate of this client that it trusts and that has not expired: check ssl.certificate.location and ssl.key.location",
    ),
    (
        &["failed to acquire sasl oauthbearer token", "no token"],
        "check the settings sasl.oauthbearer.*",
    ),
    (
        &[
            "unsupported sasl mechanism",
            "mechanism handshake failed",
            "not enabled",
        ],
        "the broker does not offer this mechanism: check sasl.mechanism",
    ),
    (
        &["invalid_token", "oauthbearer"],
        "the broker does not take this token: check scope and audience (sasl.oauthbearer.scope)",
    ),
    (
        &[
            "sasl authentication error",
            "authentication failed",
            "invalid credentials",
        ],
        "check sasl.username, sasl.password and sasl.mechanism",
    ),
    (
        &[
            "incorrect security.protocol",
            "connecting to a ssl listener",
            "connecting to a plaintext listener",
            "connecting to a sasl listener",
            "wrong version number",
        ],
        "the broker speaks another protocol there: check security.protocol and the port in --brokers",
    ),
    (&["certificate", "ssl"], "check the settings ssl.*"),
    (&["sasl"], "check the settings sasl.*"),
    (&["not authori"], "check the ACLs of this user"),
];

/// Whether a complaint is about who this client is and how it speaks, and not about a network that fails.
pub(crate) fn is_about_us(complaint: &str) -> bool {
    position(complaint).is_some()
}

/// What to change.
pub(crate) fn advice(complaint: &str) -> &'static str {
    position(complaint).map_or(
        "check the security settings (-X security.protocol=…, sasl.*, ssl.*)",
        |index| ADVICE[index].1,
    )
}

fn position(complaint: &str) -> Option<usize> {
    let complaint = complaint.to_ascii_lowercase();
    // Only librdkafka's own names of addresses: `ssl://…` is in each of them.
    let complaint = complaint
        .replace("sasl_ssl://", "")
        .replace("ssl://", "")
        .replace("sasl_plaintext://", "");
    let fits = |words: &[&str]| words.iter().any(|word| complaint.contains(word));
    ADVICE.iter().position(|(words, _)| fits(words))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_complaint_has_its_advice() {
        for (complaint, expected) in [
            (
                "SSL handshake failed: error:0A000086:SSL routines::certificate verify failed: broker certificate could not be verified, verify that ssl.ca.location is correctly configured",
                "ssl.ca.location",
            ),
            (
                "SASL authentication error: Authentication failed: Invalid username or password",
                "sasl.password",
            ),
            (
                "Disconnected while requesting ApiVersion: might be caused by incorrect security.protocol configuration (connecting to a SSL listener?)",
                "security.protocol",
            ),
            (
                "Receive failed: ssl/tls alert certificate expired",
                "ssl.certificate.location",
            ),
        ] {
            assert!(
                is_about_us(complaint) && advice(complaint).contains(expected),
                "{complaint}"
            );
        }
    }

    #[test]
    fn a_network_that_fails_is_not_about_us() {
        for complaint in [
            "sasl_ssl://127.0.0.1:1/bootstrap: Connect to ipv4#127.0.0.1:1 failed: Connection refused",
            "ssl://broker:1/1: Failed to resolve 'broker:1': Name or service not known",
            "1 request(s) timed out: disconnect",
        ] {
            assert!(!is_about_us(complaint), "{complaint}");
        }
    }
}
