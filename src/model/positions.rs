//! Position ids of a sequence with pictures, sound and video: where every token stands on the axes of time, height and
//! width (M-RoPE).
//!
//! Text counts on along all three. A picture takes one place in time and spreads over height and width; what follows it
//! stands behind its longest side. Video moves in time by seconds, so its places may be fractions; they stay fractions.

use super::audio::token_count;
use super::axes::Positions;
use crate::checkpoint::config::ThinkerConfig;

/// A video of a sequence.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct VideoGrid {
    /// Temporal patches, and rows and columns of patches.
    pub grid: [usize; 3],
    /// Time from one temporal patch to the next, in seconds.
    pub second_per_grid: f32,
}

/// The media of one sequence, each kind in the order in which it occurs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MediaGrids {
    /// Images: temporal patches (1 for a still), rows and columns of patches.
    pub images: Vec<[usize; 3]>,
    /// Videos.
    pub videos: Vec<VideoGrid>,
    /// Clips of sound, those of videos included: their valid mel frames.
    pub audio_frames: Vec<usize>,
    /// Whether a video may carry its sound within, the tokens of both in order of time.
    pub use_audio_in_video: bool,
}

/// Why a sequence and its media do not belong together.
#[derive(Debug, PartialEq, thiserror::Error)]
pub enum PositionsError {
    /// The model has no such tokens.
    #[error(
        "the sequence comes with {kind}, but config.json of this model states no `{key}`: it takes none; leave them out"
    )]
    NotTaken {
        /// What comes with it.
        kind: &'static str,
        /// The key that is missing.
        key: &'static str,
    },
    /// A grid that cannot be cut into tokens.
    #[error(
        "{kind} {index} has a grid of {grid:?} patches (time, height, width); expected at least one patch each way, height and width multiples of {merge}: resize it as the model's preprocessing does"
    )]
    Grid {
        /// Image or video.
        kind: &'static str,
        /// Which of them, from 0.
        index: usize,
        /// Its grid.
        grid: [usize; 3],
        /// `spatial_merge_size`.
        merge: usize,
    },
    /// A time step that is none.
    #[error(
        "video {index} has {seconds} seconds from one temporal patch to the next; expected a finite number that is not negative"
    )]
    Seconds {
        /// Which video, from 0.
        index: usize,
        /// Its time step.
        seconds: f32,
    },
    /// More placeholders than media.
    #[error(
        "token {at} begins {kind} {index}, but the sequence comes with {given} of that kind: give as many as the prompt has places for"
    )]
    NoMedia {
        /// Where, from 0.
        at: usize,
        /// Image, video or audio.
        kind: &'static str,
        /// Which of them, from 0.
        index: usize,
        /// How many there are.
        given: usize,
    },
    /// More media than placeholders.
    #[error(
        "the sequence comes with {given} of {kind}, but its tokens have places for {used}: give as many as the prompt has places for"
    )]
    Unused {
        /// Image, video or audio.
        kind: &'static str,
        /// How many there are.
        given: usize,
        /// How many were placed.
        used: usize,
    },
    /// A placeholder is missing, or there is one too many.
    #[error(
        "token {at} is {found}, expected {expected} ({what}): every medium needs exactly as many placeholders as it has tokens, between its markers"
    )]
    Token {
        /// Where, from 0.
        at: usize,
        /// The id there, or that the sequence ends.
        found: String,
        /// The id that should be there.
        expected: String,
        /// What that id is for.
        what: &'static str,
    },
}

/// Positions of every token of a sequence, and the *delta*: a token generated at cache length `c` stands at `c + delta`
/// on all axes.
///
/// `ids` are the tokens without padding, placeholders expanded. Without an image or a video the positions are those of
/// text. The arithmetic is the reference's, in f32.
///
/// # Errors
/// When tokens and media do not match: a medium without a place, a place without a medium, a number of placeholders other
/// than the medium has tokens, or placeholders outside their markers.
pub fn media_positions(
    ids: &[u32],
    config: &ThinkerConfig,
    grids: &MediaGrids,
) -> Result<(Positions, f32), PositionsError> {
    check(config, grids)?;
    let mut scan = Scan {
        ids,
        config,
        grids,
        at: 0,
        used: [0; 3],
        start: 0.0,
        positions: Positions::default(),
    };
    while scan.at < ids.len() {
        scan.next()?;
    }
    scan.all_used()?;
    let highest = scan.positions.axes.iter().flatten();
    let highest = highest.copied().fold(-1.0, f32::max);
    let delta = highest + 1.0 - ids.len() as f32;
    Ok((scan.positions, delta))
}

/// Names of the kinds, and their place in [`Scan::used`].
const IMAGE: (&str, usize) = ("image", 0);
const VIDEO: (&str, usize) = ("video", 1);
const AUDIO: (&str, usize) = ("audio", 2);

fn check(config: &ThinkerConfig, grids: &MediaGrids) -> Result<(), PositionsError> {
    let given = |kind, key, none: bool, id: Option<u32>| {
        if none || id.is_some() {
            return Ok(());
        }
        Err(PositionsError::NotTaken { kind, key })
    };
    let (images, videos) = (grids.images.is_empty(), grids.videos.is_empty());
    let vision = config.vision_start_token_id;
    given("images", "image_token_id", images, config.image_token_id)?;
    given("videos", "video_token_id", videos, config.video_token_id)?;
    given(
        "pictures",
        "vision_start_token_id",
        images && videos,
        vision,
    )?;
    let (sounds, audio) = (grids.audio_frames.is_empty(), config.audio_token_id);
    given("audio", "audio_token_id", sounds, audio)?;
    let start = config.audio_start_token_id;
    given("audio", "audio_start_token_id", sounds, start)?;
    let tower = config.audio.as_ref().map(|_| 0);
    given("audio", "audio_config", sounds, tower)?;
    let merge = merge_size(config);
    let fits = |kind, index, grid: [usize; 3]| {
        let whole = grid[1].is_multiple_of(merge) && grid[2].is_multiple_of(merge);
        if whole && !grid.contains(&0) {
            return Ok(());
        }
        Err(PositionsError::Grid {
            kind,
            index,
            grid,
            merge,
        })
    };
    for (index, grid) in grids.images.iter().enumerate() {
        fits(IMAGE.0, index, *grid)?;
    }
    for (index, video) in grids.videos.iter().enumerate() {
        fits(VIDEO.0, index, video.grid)?;
        let seconds = video.second_per_grid;
        if !(seconds >= 0.0 && seconds.is_finite()) {
            return Err(PositionsError::Seconds { index, seconds });
        }
    }
    Ok(())
}

fn merge_size(config: &ThinkerConfig) -> usize {
    let vision = config.vision.as_ref();
    vision.map_or(1, |vision| vision.spatial_merge_size).max(1)
}

/// A pass over the tokens, from left to right.
struct Scan<'a> {
    ids: &'a [u32],
    config: &'a ThinkerConfig,
    grids: &'a MediaGrids,
    /// The token that comes next.
    at: usize,
    /// Images, videos and clips that have been placed.
    used: [usize; 3],
    /// Where the next piece begins.
    start: f32,
    positions: Positions,
}

impl Scan<'_> {
    /// Tokens of a clip.
    fn audio_tokens(&self, frames: usize) -> usize {
        let tower = self.config.audio.as_ref();
        tower.map_or(0, |tower| token_count(tower, frames))
    }

    fn id(&self, ahead: usize) -> Option<u32> {
        self.ids.get(self.at + ahead).copied()
    }

    /// Places the next token, or the next medium with its markers.
    fn next(&mut self) -> Result<(), PositionsError> {
        let config = self.config;
        let (this, following) = (self.id(0), self.id(1));
        let is = |found: Option<u32>, wanted: Option<u32>| found.is_some() && found == wanted;
        if is(this, config.vision_start_token_id) {
            if is(following, config.image_token_id) {
                return self.image();
            }
            if is(following, config.video_token_id) {
                return self.video();
            }
            let sounds = is(following, config.audio_start_token_id);
            let filled = [config.video_token_id, config.audio_token_id];
            let filled = filled.iter().any(|id| is(self.id(2), *id));
            if self.grids.use_audio_in_video && sounds && filled {
                return self.audio_in_video();
            }
        } else if is(this, config.audio_start_token_id) && is(following, config.audio_token_id) {
            return self.audio();
        }
        let pads = [
            config.image_token_id,
            config.video_token_id,
            config.audio_token_id,
        ];
        if pads.iter().any(|pad| is(this, *pad)) {
            let what = "a placeholder stands outside its markers";
            return Err(self.unexpected("text or a marker".into(), what));
        }
        self.text_token();
        Ok(())
    }

    fn unexpected(&self, expected: String, what: &'static str) -> PositionsError {
        let found = self.id(0);
        PositionsError::Token {
            at: self.at,
            found: found.map_or("the end of the sequence".into(), |id| id.to_string()),
            expected,
            what,
        }
    }

    /// One more token at `place`; the start stays.
    fn push(&mut self, place: [f32; 3]) {
        for (axis, value) in self.positions.axes.iter_mut().zip(place) {
            axis.push(value);
        }
        self.at += 1;
    }

    /// A token of text, or a marker: one place further on all axes.
    fn text_token(&mut self) {
        self.push([self.start; 3]);
        self.start += 1.0;
    }

    /// As [`Self::push`], where the token there is `id`.
    fn placeholder(
        &mut self,
        id: Option<u32>,
        what: &'static str,
        place: [f32; 3],
    ) -> Result<(), PositionsError> {
        if self.id(0) != id {
            let expected = id.map_or("none".into(), |id| id.to_string());
            return Err(self.unexpected(expected, what));
        }
        self.push(place);
        Ok(())
    }

    /// The next medium's number, of its kind.
    fn take(&mut self, (kind, of): (&'static str, usize)) -> Result<usize, PositionsError> {
        let (index, given) = (self.used[of], self.given()[of]);
        if index >= given {
            return Err(PositionsError::NoMedia {
                at: self.at,
                kind,
                index,
                given,
            });
        }
        self.used[of] += 1;
        Ok(index)
    }

    fn given(&self) -> [usize; 3] {
        let grids = self.grids;
        [
            grids.images.len(),
            grids.videos.len(),
            grids.audio_frames.len(),
        ]
    }

    fn all_used(&self) -> Result<(), PositionsError> {
        for ((kind, of), given) in [IMAGE, VIDEO, AUDIO].into_iter().zip(self.given()) {
            let used = self.used[of];
            if used < given {
                return Err(PositionsError::Unused { kind, given, used });
            }
        }
        Ok(())
    }

    fn image(&mut self) -> Result<(), PositionsError> {
        let grid = self.grids.images[self.take(IMAGE)?];
        self.text_token();
        self.block(grid, 1.0, self.config.image_token_id, "an image's pad")?;
        let end = self.config.vision_end_token_id;
        self.end_marker(end, "the end of an image")
    }

    fn video(&mut self) -> Result<(), PositionsError> {
        let video = self.grids.videos[self.take(VIDEO)?];
        self.text_token();
        let seconds = video.second_per_grid;
        let pad = self.config.video_token_id;
        self.block(video.grid, seconds, pad, "a video's pad")?;
        let end = self.config.vision_end_token_id;
        self.end_marker(end, "the end of a video")
    }

    fn audio(&mut self) -> Result<(), PositionsError> {
        let frames = self.grids.audio_frames[self.take(AUDIO)?];
        self.text_token();
        for _ in 0..self.audio_tokens(frames) {
            let place = [self.start; 3];
            self.placeholder(self.config.audio_token_id, "an audio clip's pad", place)?;
            self.start += 1.0;
        }
        let end = self.config.audio_end_token_id;
        self.end_marker(end, "the end of an audio clip")
    }

    /// A marker that closes a medium, where config.json names one.
    fn end_marker(&mut self, id: Option<u32>, what: &'static str) -> Result<(), PositionsError> {
        if id.is_some() {
            let place = [self.start; 3];
            self.placeholder(id, what, place)?;
            self.start += 1.0;
        }
        Ok(())
    }

    /// Places of the tokens of a picture or a video from the running start, by frame, row and column.
    fn places(&self, [frames, height, width]: [usize; 3], seconds: f32) -> Vec<[f32; 3]> {
        let merge = merge_size(self.config);
        let per_second = self.config.position_id_per_seconds.unwrap_or(1.0);
        let (rows, columns, start) = (height / merge, width / merge, self.start);
        let mut places = Vec::with_capacity(frames * rows * columns);
        for frame in 0..frames {
            let time = frame as f32 * seconds * per_second + start;
            for row in 0..rows {
                for column in 0..columns {
                    places.push([time, row as f32 + start, column as f32 + start]);
                }
            }
        }
        places
    }

    fn block(
        &mut self,
        grid: [usize; 3],
        seconds: f32,
        pad: Option<u32>,
        what: &'static str,
    ) -> Result<(), PositionsError> {
        let places = self.places(grid, seconds);
        for place in &places {
            self.placeholder(pad, what, *place)?;
        }
        self.start = after(&places, self.start);
        Ok(())
    }

    /// A video with its sound within: of both lists the earlier token comes next, the video's where they are level.
    ///
    /// What follows continues from the piece appended last, a single token or the rest of one list, even where an earlier
    /// token stands further out.
    fn audio_in_video(&mut self) -> Result<(), PositionsError> {
        let video = self.grids.videos[self.take(VIDEO)?];
        let frames = self.grids.audio_frames[self.take(AUDIO)?];
        self.text_token();
        self.text_token();
        let seen = self.places(video.grid, video.second_per_grid);
        let start = self.start;
        let heard = (0..self.audio_tokens(frames)).map(|at| [start + at as f32; 3]);
        let heard: Vec<[f32; 3]> = heard.collect();
        let (mut seen, mut heard) = (&seen[..], &heard[..]);
        let (see, hear) = ("a pad of a video with sound", "a pad of a video's sound");
        let (video_pad, audio_pad) = (self.config.video_token_id, self.config.audio_token_id);
        let mut next = start;
        while let ([video, later @ ..], [audio, rest @ ..]) = (seen, heard) {
            if video[0] <= audio[0] {
                self.placeholder(video_pad, see, *video)?;
                next = after(std::slice::from_ref(video), next);
                seen = later;
            } else {
                self.placeholder(audio_pad, hear, *audio)?;
                next = after(std::slice::from_ref(audio), next);
                heard = rest;
            }
        }
        for place in seen {
            self.placeholder(video_pad, see, *place)?;
        }
        for place in heard {
            self.placeholder(audio_pad, hear, *place)?;
        }
        self.start = after(heard, after(seen, next));
        self.end_marker(self.config.audio_end_token_id, "the end of a video's sound")?;
        self.end_marker(self.config.vision_end_token_id, "the end of a video")
    }
}

/// Where the piece after these places begins; `start` when there is none.
fn after(places: &[[f32; 3]], start: f32) -> f32 {
    let highest = places.iter().flatten().copied().reduce(f32::max);
    highest.map_or(start, |highest| highest + 1.0)
}
