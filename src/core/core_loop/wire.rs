//! How observations are written down. What recordings of earlier versions could say is written as they wrote it, so that they
//! replay byte for byte; everything else is a request with all its parts.

use sage_actors::protocol::SensorReading;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::observation::Observation;
use crate::core::Limit;
use crate::core::request::{ContextKind, Request, RequestContent, RequestKind};
use crate::media::medium::Medium;

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Wire {
    Text {
        source: String,
        text: String,
        urgency: f32,
    },
    Question {
        source: String,
        text: String,
        urgency: f32,
    },
    Turn {
        source: String,
        text: String,
        urgency: f32,
    },
    Alarm {
        source: String,
        text: String,
        urgency: f32,
    },
    Sensed {
        source: String,
        media: Vec<Medium>,
        text: String,
        #[serde(default, skip_serializing_if = "std::ops::Not::not")]
        spoken: bool,
        alarm: bool,
        urgency: f32,
    },
    Sensor(SensorReading),
    Feedback(f32),
    Limit {
        source: String,
        limit: Limit,
    },
    Goal {
        source: String,
        text: String,
        urgency: f32,
    },
    Request(Box<Request>),
    Cancel {
        source: String,
        request: u64,
    },
    Forget {
        source: String,
    },
}

fn said(
    source: String,
    text: String,
    urgency: f32,
    want: RequestKind,
    context: ContextKind,
) -> Observation {
    Observation::from(Request {
        want,
        context,
        urgency,
        ..Request::question(source, text)
    })
}

impl Serialize for Observation {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        Wire::from(self.clone()).serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for Observation {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Wire::deserialize(deserializer).map(Self::from)
    }
}

impl From<Wire> for Observation {
    fn from(wire: Wire) -> Self {
        use ContextKind::{Conversation, Own, Source};
        match wire {
            Wire::Text {
                source,
                text,
                urgency,
            } => said(source, text, urgency, RequestKind::Reading, Source),
            Wire::Question {
                source,
                text,
                urgency,
            } => said(source, text, urgency, RequestKind::Answer, Own),
            Wire::Turn {
                source,
                text,
                urgency,
            } => said(source, text, urgency, RequestKind::Answer, Conversation),
            Wire::Alarm {
                source,
                text,
                urgency,
            } => said(source, text, urgency, RequestKind::AlarmAnswer, Own),
            Wire::Sensed {
                source,
                media,
                text,
                spoken,
                alarm,
                urgency,
            } => Self::from(Request {
                want: sensed_want(alarm, spoken, &text),
                spoken,
                urgency,
                ..Request::new(source, RequestContent::Said { media, text })
            }),
            Wire::Sensor(reading) => Self::Sensor(reading),
            Wire::Feedback(value) => Self::Feedback(value),
            Wire::Limit { source, limit } => Self::Limit { source, limit },
            Wire::Goal {
                source,
                text,
                urgency,
            } => Self::Goal {
                source,
                text,
                urgency,
            },
            Wire::Request(request) => Self::Request(request),
            Wire::Cancel { source, request } => Self::Cancel { source, request },
            Wire::Forget { source } => Self::Forget { source },
        }
    }
}

/// What something that is heard or seen ends with.
fn sensed_want(alarm: bool, spoken: bool, text: &str) -> RequestKind {
    match (alarm, spoken || !text.trim().is_empty()) {
        (true, _) => RequestKind::AlarmAnswer,
        (false, true) => RequestKind::Answer,
        (false, false) => RequestKind::Reading,
    }
}

impl From<Observation> for Wire {
    fn from(observation: Observation) -> Self {
        match observation {
            Observation::Request(request) => of_request(request),
            Observation::Sensor(reading) => Self::Sensor(reading),
            Observation::Feedback(value) => Self::Feedback(value),
            Observation::Limit { source, limit } => Self::Limit { source, limit },
            Observation::Goal {
                source,
                text,
                urgency,
            } => Self::Goal {
                source,
                text,
                urgency,
            },
            Observation::Cancel { source, request } => Self::Cancel { source, request },
            Observation::Forget { source } => Self::Forget { source },
        }
    }
}

/// In the old words where they say all of it.
fn of_request(request: Box<Request>) -> Wire {
    let RequestContent::Said { media, text } = &request.content else {
        return Wire::Request(request);
    };
    let plain = Request {
        want: request.want,
        context: request.context,
        spoken: request.spoken,
        urgency: request.urgency,
        ..Request::new(&request.source, request.content.clone())
    };
    if *request != plain {
        return Wire::Request(request);
    }
    let (source, text, urgency) = (request.source.clone(), text.clone(), request.urgency);
    if !media.is_empty() {
        let alarm = request.want == RequestKind::AlarmAnswer;
        let same = request.want == sensed_want(alarm, request.spoken, &text);
        if !same || request.context != ContextKind::Own {
            return Wire::Request(request);
        }
        return Wire::Sensed {
            source,
            media: media.clone(),
            text,
            spoken: request.spoken,
            alarm,
            urgency,
        };
    }
    match (request.want, request.context, request.spoken) {
        (RequestKind::Reading, ContextKind::Source, false) => Wire::Text {
            source,
            text,
            urgency,
        },
        (RequestKind::Answer, ContextKind::Own, false) => Wire::Question {
            source,
            text,
            urgency,
        },
        (RequestKind::Answer, ContextKind::Conversation, false) => Wire::Turn {
            source,
            text,
            urgency,
        },
        (RequestKind::AlarmAnswer, ContextKind::Own, false) => Wire::Alarm {
            source,
            text,
            urgency,
        },
        _ => Wire::Request(request),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::core::request::VoiceChoice;

    fn written(observation: &Observation) -> String {
        let text = serde_json::to_string(observation).unwrap();
        let again: Observation = serde_json::from_str(&text).unwrap();
        assert_eq!(again, *observation, "{text}");
        text
    }

    #[test]
    fn what_earlier_versions_said_is_written_as_they_wrote_it() {
        let cases = [
            (
                Observation::text("book", "In the beginning"),
                r#"{"text":{"source":"book","text":"In the beginning","urgency":0.0}}"#,
            ),
            (
                Observation::question("me", "Why?").urgent(0.5),
                r#"{"question":{"source":"me","text":"Why?","urgency":0.5}}"#,
            ),
            (
                Observation::turn("me", "Why?"),
                r#"{"turn":{"source":"me","text":"Why?","urgency":0.0}}"#,
            ),
            (
                Observation::alarm("watch", "What burns?"),
                r#"{"alarm":{"source":"watch","text":"What burns?","urgency":1.0}}"#,
            ),
        ];
        for (observation, expected) in cases {
            assert_eq!(written(&observation), expected);
        }
        let sound = Medium::sound(vec![1, 2, 3]);
        for observation in [
            Observation::heard("room", sound.clone()),
            Observation::heard("room", sound.clone()).asking("What is it?"),
            Observation::heard("room", sound.clone()).speaking(),
            Observation::heard("room", sound)
                .asking("What is it?")
                .alarming(),
        ] {
            assert!(written(&observation).starts_with(r#"{"sensed":{"source":"room""#));
        }
    }

    #[test]
    fn what_they_could_not_say_is_a_request() {
        let voice = VoiceChoice::default();
        let spoken = Observation::question("me", "Why?").spoken_by(voice);
        assert!(written(&spoken).starts_with(r#"{"request":{"source":"me""#));
        let short = Request {
            max_tokens: Some(3),
            ..Request::question("me", "Why?")
        };
        assert!(written(&short.into()).contains(r#""max_tokens":3"#));
    }
}
