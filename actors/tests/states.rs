//! `docs/states.md` says what the code does: its generated parts are those that the command writes now.

#![allow(clippy::unwrap_used)] // an integration test

#[path = "../examples/states/page.rs"]
mod page;

const PAGE: &str = include_str!("../../docs/states.md");

#[test]
fn the_page_is_what_the_command_writes() {
    let written = page::filled(PAGE).unwrap();
    let stale = written
        .lines()
        .zip(PAGE.lines())
        .find(|(now, then)| now != then);
    assert_eq!(
        stale, None,
        "run: cargo run --release -p sage-actors --example states"
    );
    assert_eq!(written, PAGE);
}

#[test]
fn a_page_without_its_marks_is_refused() {
    let cut = PAGE.replace("<!-- end of table -->", "");
    assert!(page::filled(&cut).unwrap_err().contains("end of table"));
}
