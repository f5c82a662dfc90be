//! Segments that begin a context: nothing is before them, so that the model knows less than it does.

use super::*;

fn beginning(excess: f32) -> Segment {
    Segment {
        begins_context: true,
        ..segment(excess)
    }
}

/// Known text: 0 nats more than usual in its context, 1 nat more without; every tenth segment is a beginning.
fn reader(segments: u32) -> Assessor {
    let mut assessor = Assessor::new();
    for number in 0..segments {
        let next = match number % 10 {
            0 => beginning(1.0),
            _ => segment(0.0),
        };
        let surprise = assessor.step(&seen(next)).salience.surprise;
        assert_eq!(surprise, 0.0, "segment {number}");
    }
    assessor
}

#[test]
fn known_text_does_not_surprise_where_its_context_begins_anew() {
    // The first beginning is the only one before the second, and then there are more than enough.
    reader(200);
    // The same loss within a context is a surprise.
    let within = reader(200).step(&seen(segment(1.0))).salience.surprise;
    assert!(within > 0.9, "{within}");
}

#[test]
fn strange_text_surprises_where_a_context_begins_too() {
    for segments in [10, 20, 30, 100] {
        let mut assessor = reader(segments);
        let strange = assessor.step(&seen(beginning(2.0))).salience.surprise;
        assert!(strange > 0.9, "after {segments}: {strange}");
    }
    // Well predicted, but not what was being read.
    let mut assessor = reader(30);
    let elsewhere = Segment {
        mean_hidden: vec![0.0, 1.0, 0.0],
        ..beginning(1.0)
    };
    let strange = assessor.step(&seen(elsewhere)).salience.surprise;
    assert!(strange > 0.9, "{strange}");
}

#[test]
fn what_stands_elsewhere_only_for_want_of_context_does_not_surprise() {
    let aside = |begins_context| Segment {
        mean_hidden: vec![0.9, 0.435_889_9, 0.0],
        begins_context,
        ..segment(0.0)
    };
    let mut assessor = Assessor::new();
    let mut last = 0.0;
    for number in 0..100 {
        let next = match number % 10 {
            0 => aside(true),
            _ => segment(0.0),
        };
        last = assessor.step(&seen(next)).salience.surprise;
        assert!(last == 0.0 || number < 40, "segment {number}: {last}");
    }
    assert_eq!(last, 0.0);
    let within = assessor.step(&seen(aside(false))).salience.surprise;
    assert!(within > 0.2, "{within}");
}

/// Until there are enough of them the worst beginning stands for the usual one.
#[test]
fn the_worst_of_few_beginnings_is_no_surprise_again() {
    let mut assessor = Assessor::new();
    for excess in [0.2, 2.0, 0.4] {
        assessor.step(&seen(beginning(excess)));
        for _ in 0..9 {
            assessor.step(&seen(segment(0.0)));
        }
    }
    assert_eq!(assessor.step(&seen(beginning(2.0))).salience.surprise, 0.0);
    let more = assessor.step(&seen(beginning(12.0))).salience.surprise;
    assert!(more > 0.9, "{more}");
}
