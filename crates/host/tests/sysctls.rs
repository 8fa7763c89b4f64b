//! Kernel parameters of a real kernel, in a network namespace of the test's own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::disallowed_methods, reason = "tests")]

mod common;

use common::{alone, sh};
use evenkeel_core::{Actuator, Class, Sensor, Step, SysctlKey, SysctlSeen, chain};
use evenkeel_host::Host;

fn key(text: &str) -> SysctlKey {
    text.parse().unwrap()
}

fn set(host: &mut Host, name: &str, value: &str) -> Result<(), evenkeel_core::Fault> {
    host.perform(&Step::SetSysctl { key: key(name), value: value.to_owned() })
}

fn value(host: &Host, name: &str) -> String {
    match host.sysctl(&key(name)).unwrap() {
        SysctlSeen::Value(value) => value,
        other => panic!("{name}: {other:?}"),
    }
}

#[test]
fn a_parameter_is_written_and_read_back() {
    if !alone("a_parameter_is_written_and_read_back") {
        return;
    }
    let (mut host, name) = (Host::new("/run/none".into()), "net.ipv4.tcp_keepalive_time");
    assert_eq!(value(&host, name), "7200", "a new namespace starts with the kernel's own");
    set(&mut host, name, "61").unwrap();
    assert_eq!(value(&host, name), "61");
    sh("echo 62 > /proc/sys/net/ipv4/tcp_keepalive_time");
    assert_eq!(value(&host, name), "62", "through a descriptor that stayed open");

    set(&mut host, "net.ipv4.tcp_rmem", "4096 131072 6291456").unwrap();
    assert_eq!(value(&host, "net.ipv4.tcp_rmem"), "4096\t131072\t6291456");

    let fault = set(&mut host, name, "abc").unwrap_err();
    assert!(chain(&fault).contains("the kernel refuses `abc`"), "{}", chain(&fault));
    assert_eq!(fault.class, Class::Trouble);
    let fault = set(&mut host, "net.ipv4.tcp_retries2", "256").unwrap_err();
    assert!(chain(&fault).contains("Invalid argument"), "{}", chain(&fault));
    // Success that changes nothing is not believed: the kernel takes the first number and drops the rest.
    let fault = set(&mut host, name, "70 71").unwrap_err();
    assert!(chain(&fault).contains("the kernel kept"), "{}", chain(&fault));
}

#[test]
fn what_is_absent_unreadable_or_read_only_is_told_apart() {
    if !alone("what_is_absent_unreadable_or_read_only_is_told_apart") {
        return;
    }
    let mut host = Host::new("/run/none".into());
    assert_eq!(host.sysctl(&key("net.ipv4.no_such_thing")).unwrap(), SysctlSeen::Absent);
    let flush = host.sysctl(&key("net.ipv4.route.flush")).unwrap();
    assert_eq!(flush, SysctlSeen::Unreadable("it can be written only".into()));
    set(&mut host, "net.ipv4.route.flush", "1").expect("what cannot be read back is believed");
    assert!(host.sysctl(&key("net.ipv4")).is_err(), "a group of parameters is none");
    assert_eq!(set(&mut host, "net.ipv4.no_such_thing", "1").unwrap_err().class, Class::Waiting);
    let secret = host.sysctl(&key("net.ipv6.conf.all.stable_secret"));
    assert!(matches!(secret, Ok(SysctlSeen::Unreadable(why)) if why.contains("EIO")));

    // As in a container.
    sh("mount --bind /proc/sys /proc/sys && mount -o remount,bind,ro /proc/sys");
    let fault = set(&mut host, "net.ipv4.tcp_retries2", "9").unwrap_err();
    assert_eq!(fault.class, Class::NotApplicable, "{}", chain(&fault));
    assert!(chain(&fault).contains("read-only"), "{}", chain(&fault));
}

#[test]
fn an_interface_with_a_dot_in_its_name_comes_and_goes() {
    if !alone("an_interface_with_a_dot_in_its_name_comes_and_goes") {
        return;
    }
    let (mut host, name) = (Host::new("/run/none".into()), "net/ipv4/conf/eth0.100/rp_filter");
    assert_eq!(host.sysctl(&key(name)).unwrap(), SysctlSeen::Absent);
    for _ in 0..3 {
        sh("ip link add eth0.100 type bridge");
        set(&mut host, name, "2").unwrap();
        assert_eq!(value(&host, name), "2");
        sh("ip link del eth0.100");
        assert_eq!(host.sysctl(&key(name)).unwrap(), SysctlSeen::Absent);
    }
}
