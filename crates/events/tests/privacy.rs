//! Privacy: what is shown instead, that it is valid again, and that nothing leaks.

mod common;

use common::{GOOD, payload_with};
use loginlake_events::Contract;
use loginlake_events::privacy::PersonalField::{self, *};
use loginlake_events::privacy::{Privacy, PrivacyError};

const KEY: &[u8] = b"0123456789abcdef0123456789abcdef";

fn contract(privacy: Privacy) -> Contract {
    Contract::builder().privacy(privacy).build().unwrap()
}

/// user_id, device_id, ip, ip_class and ip_prefix.
fn shown(contract: &Contract, payload: &str) -> [String; 5] {
    let event = contract.decode(Some(payload.as_bytes()), None).unwrap();
    [
        event.user_id(),
        event.device_id(),
        event.ip(),
        event.ip_class().as_str(),
        event.ip_prefix(),
    ]
    .map(str::to_owned)
}

#[test]
fn pseudonyms_are_the_keyed_hmac_of_name_and_value() {
    // Computed with another implementation: HMAC-SHA-256(key, name + "\0" + value), the first 16 bytes.
    let contract = contract(Privacy::pseudonyms(KEY, &PersonalField::ALL).unwrap());
    assert_eq!(
        shown(&contract, GOOD),
        [
            "517dd8a2-89df-8b7a-8c37-577c84bfab02",
            "7737d5f018deb0b84e34112e0ae4a3b7",
            "fdf6:2650:bb4:7790:48c9:8bad:8bbb:6faa",
            "public",
            "fdf6:2650:bb4::/48",
        ]
    );
}

#[test]
fn only_the_chosen_fields_become_pseudonyms() {
    let plain = shown(&Contract::default(), GOOD);
    for (field, changed) in [(UserId, vec![0]), (DeviceId, vec![1]), (Ip, vec![2, 4])] {
        let private = shown(&contract(Privacy::pseudonyms(KEY, &[field]).unwrap()), GOOD);
        let differing: Vec<usize> = (0..5).filter(|index| plain[*index] != private[*index]).collect();
        assert_eq!(differing, changed, "{field}");
    }
}

#[test]
fn pseudonyms_are_valid_again_and_depend_on_value_and_key() {
    let privacy = Privacy::pseudonyms(KEY, &PersonalField::ALL).unwrap();
    let other_key = Privacy::pseudonyms(&[7; 16], &PersonalField::ALL).unwrap();
    let private = contract(privacy.clone());
    let event = private.decode(Some(GOOD.as_bytes()), None).unwrap();
    let mut record = Vec::new();
    event.write_json(0, &mut record);
    let plain = Contract::default();
    let again = plain.decode(Some(&record), None).unwrap();
    assert_eq!(
        (again.user_id(), again.device_id(), again.ip()),
        (event.user_id(), event.device_id(), event.ip())
    );
    assert_eq!(shown(&private, GOOD), shown(&contract(privacy), GOOD));
    for index in [0, 1, 2] {
        assert_ne!(
            shown(&private, GOOD)[index],
            shown(&contract(other_key.clone()), GOOD)[index]
        );
    }
    let other_ip = payload_with("ip", "\"108.228.145.238\"");
    assert_ne!(
        shown(&private, GOOD)[4],
        shown(&private, &other_ip)[4],
        "the prefix is the pseudonym's own"
    );
}

#[test]
fn a_pseudonym_follows_the_normalised_value() {
    let private = contract(Privacy::pseudonyms(KEY, &PersonalField::ALL).unwrap());
    let upper = GOOD
        .replace("a6397988", "A6397988")
        .replace("108.228.145.239", "::ffff:108.228.145.239");
    assert_eq!(shown(&private, GOOD), shown(&private, &upper));
}

#[test]
fn a_mask_keeps_the_prefix_and_the_class() {
    let masked = contract(Privacy::none().with_masked_ip().unwrap());
    for (ip, expected) in [
        ("108.228.145.239", ["108.228.145.0", "public", "108.228.145.0/24"]),
        ("192.168.1.77", ["192.168.1.0", "private", "192.168.1.0/24"]),
        (
            "2001:db8:1:2:3:4:5:6",
            ["2001:db8:1::", "documentation", "2001:db8:1::/48"],
        ),
        ("::1", ["::", "loopback", "::/48"]),
    ] {
        let shown = shown(&masked, &payload_with("ip", &format!("\"{ip}\"")));
        assert_eq!(shown[2..], expected, "{ip}");
    }
}

#[test]
fn a_configuration_that_protects_nothing_is_refused() {
    assert_eq!(
        Privacy::pseudonyms(b"short", &[Ip]).unwrap_err(),
        PrivacyError::ShortKey { length_bytes: 5 }
    );
    let both = Privacy::pseudonyms(KEY, &[Ip]).unwrap().with_masked_ip();
    assert_eq!(both.unwrap_err(), PrivacyError::MaskedAndPseudonym);
    assert!(
        Privacy::pseudonyms(KEY, &[UserId])
            .unwrap()
            .with_masked_ip()
            .is_ok()
    );
    assert_eq!("user_id".parse(), Ok(UserId));
    assert!("locale".parse::<PersonalField>().is_err());
}

#[test]
fn no_debug_output_shows_the_key_or_the_person() {
    let private = contract(Privacy::pseudonyms(KEY, &[Ip]).unwrap());
    let shown = format!("{private:?}");
    assert!(
        shown.contains("pseudonym:ip") && !shown.contains("0123456789abcdef") && !shown.contains("48, 49")
    );
    let plain = Contract::default();
    let event = format!("{:?}", plain.decode(Some(GOOD.as_bytes()), None).unwrap());
    for personal in ["a6397988", "6221eb3d", "108.228"] {
        assert!(!event.contains(personal), "{event}");
    }
}
