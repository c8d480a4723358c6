//! How rows are encoded: what the default codec is measured against, and from what size on
//! compression is worth its time.
//!
//! Ours is timed with its seal, a checksum over key, version and row; the others are bare. postcard
//! does not describe itself and so cannot carry a `serde_json::Value`: it is here as the limit.

use std::{hint::black_box, sync::LazyLock, time::Instant};

use anyhow::{Result, bail, ensure};
use bytes::Bytes;
use cached_repo::{
    CachedEntity, Version,
    internals::{Claims, Content, Entry, Key, KeySpace, Kind, Timestamp, open, seal_row},
};
use cached_repo_report::{Figure, median};

use super::Case;
use crate::{city::City, load::ROUNDS, stage::Stage};

/// Rows that are encoded, one after the other.
const SAMPLE: usize = 1000;
/// Tag and checksum, which ours has before the row.
const SEAL_LEN: usize = 5;
const COMPRESSED: [(&str, usize); 3] = [("260b", 260), ("2kib", 2 << 10), ("20kib", 20 << 10)];
/// Rows of each size that are compressed.
const COMPRESSED_SAMPLE: usize = 100;
const ZSTD_LEVEL: i32 = 1;

pub(super) fn cases() -> Vec<Case> {
    let codecs = codecs();
    let figures = codecs.iter().flat_map(|codec| codec_names(codec.name));
    let codec = Case::new("codec", figures.collect(), |stage| {
        Box::pin(async move { compare_codecs(&stage.cities[..SAMPLE]) })
    });
    let figures = COMPRESSED.iter().flat_map(|(size, _)| {
        let names = COMPRESSORS.map(|compressor| compression_names(size, compressor));
        names.into_iter().flatten().chain([raw_name(size)])
    });
    let compression = Case::new("compress", figures.collect(), |stage| {
        Box::pin(async move { compare_compression(stage) })
    });
    vec![codec, compression]
}

fn codec_names(codec: &str) -> [String; 3] {
    ["bytes", "encode_ns", "decode_ns"].map(|what| format!("codec_{codec}_{what}"))
}

fn compression_names(size: &str, compressor: &str) -> [String; 3] {
    ["bytes", "ns", "decompress_ns"].map(|what| format!("compress_{size}_{compressor}_{what}"))
}

fn raw_name(size: &str) -> String {
    format!("compress_{size}_none_bytes")
}

/// A way from a row to bytes and back.
struct Codec {
    name: &'static str,
    encode: fn(&City) -> Result<Vec<u8>>,
    decode: fn(&[u8]) -> Result<City>,
}

fn codecs() -> [Codec; 5] {
    [
        Codec {
            name: "ours",
            encode: |city| Ok(sealed(city)?.payload.into()),
            decode: |bytes| unsealed(&entry(Bytes::copy_from_slice(bytes))),
        },
        Codec {
            name: "json",
            encode: |city| {
                let mut bytes = room();
                serde_json::to_writer(&mut bytes, city)?;
                Ok(bytes)
            },
            decode: |bytes| Ok(serde_json::from_slice(bytes)?),
        },
        Codec {
            name: "messagepack",
            encode: |city| {
                let mut bytes = room();
                rmp_serde::encode::write(&mut bytes, city)?;
                Ok(bytes)
            },
            decode: |bytes| Ok(rmp_serde::from_slice(bytes)?),
        },
        Codec {
            name: "cbor",
            encode: |city| {
                let mut bytes = room();
                ciborium::into_writer(city, &mut bytes)?;
                Ok(bytes)
            },
            decode: |bytes| Ok(ciborium::from_reader(bytes)?),
        },
        Codec {
            name: "postcard",
            encode: |city| Ok(postcard::to_extend(city, room())?),
            decode: |bytes| Ok(postcard::from_bytes(bytes)?),
        },
    ]
}

/// What everyone encodes into, as large as ours.
fn room() -> Vec<u8> {
    Vec::with_capacity(256)
}

/// All rows of this case are sealed under one key; making it is not what is timed.
static KEY: LazyLock<Key> = LazyLock::new(|| KeySpace::new("bench", "city").row(1_i64));

/// The version of every row; it is under the seal too.
const VERSION: Version = match Version::new(1) {
    Some(version) => version,
    None => Version::ZERO,
};

/// A row as the cache stores it.
pub(super) fn sealed(city: &City) -> Result<Entry> {
    let payload = seal_row(&KEY, VERSION, City::DEFINITION.format(), |row| {
        city.encode(row)
    })?;
    Ok(entry(payload))
}

fn entry(payload: Bytes) -> Entry {
    Entry {
        kind: Kind::Value,
        version: VERSION,
        at: Timestamp::from_millis(1_763_715_123_456),
        span_ms: 600_000,
        load_cost_ms: 1,
        schema: City::DEFINITION.schema,
        claims: Claims::None,
        payload,
    }
}

/// The row of an entry, its checksum verified.
pub(super) fn unsealed(entry: &Entry) -> Result<City> {
    match open(&KEY, entry, City::decode)? {
        Content::Row(city) => Ok(city),
        Content::Absent => bail!("a row was sealed"),
    }
}

fn compare_codecs(cities: &[City]) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for codec in codecs() {
        let encoded: Vec<Vec<u8>> = cities.iter().map(codec.encode).collect::<Result<_>>()?;
        for (city, bytes) in cities.iter().zip(&encoded) {
            ensure!(
                (codec.decode)(bytes)? == *city,
                "{} lost something",
                codec.name
            );
        }
        let seal = if codec.name == "ours" { SEAL_LEN } else { 0 };
        let sizes: Vec<f64> = encoded.iter().map(|b| (b.len() - seal) as f64).collect();
        let encode = each_ns(cities, |city| (codec.encode)(city).map(drop))?;
        let decode = each_ns(&encoded, |bytes| (codec.decode)(bytes).map(drop))?;
        let [bytes_name, encode_name, decode_name] = codec_names(codec.name);
        figures.push(Figure::exact(bytes_name, "bytes", median(&sizes)));
        figures.push(Figure::new(encode_name, "ns", encode));
        figures.push(Figure::new(decode_name, "ns", decode));
    }
    Ok(figures)
}

type Compress = Box<dyn FnMut(&[u8]) -> Result<Vec<u8>>>;
/// Gets the size of what comes out, which an entry would have to hold.
type Decompress = Box<dyn FnMut(&[u8], usize) -> Result<Vec<u8>>>;

/// A way to make bytes fewer, and back; what it allocates once, it keeps.
struct Compressor {
    name: &'static str,
    compress: Compress,
    decompress: Decompress,
}

const COMPRESSORS: [&str; 2] = ["lz4", "zstd"];

fn compressors() -> Result<[Compressor; 2]> {
    let [lz4, zstd] = COMPRESSORS;
    let mut compressor = zstd::bulk::Compressor::new(ZSTD_LEVEL)?;
    let mut decompressor = zstd::bulk::Decompressor::new()?;
    Ok([
        Compressor {
            name: lz4,
            compress: Box::new(|bytes| Ok(lz4_flex::compress(bytes))),
            decompress: Box::new(|bytes, len| Ok(lz4_flex::decompress(bytes, len)?)),
        },
        Compressor {
            name: zstd,
            compress: Box::new(move |bytes| Ok(compressor.compress(bytes)?)),
            decompress: Box::new(move |bytes, len| Ok(decompressor.decompress(bytes, len)?)),
        },
    ])
}

fn compare_compression(stage: &Stage) -> Result<Vec<Figure>> {
    let mut figures = Vec::new();
    for (size, bytes) in COMPRESSED {
        let rows = rows_of(&stage.cities, bytes)?;
        let len = median(&rows.iter().map(|row| row.len() as f64).collect::<Vec<_>>());
        figures.push(Figure::exact(raw_name(size), "bytes", len));
        for mut compressor in compressors()? {
            let packed: Vec<(Vec<u8>, usize)> = rows
                .iter()
                .map(|row| Ok(((compressor.compress)(row)?, row.len())))
                .collect::<Result<_>>()?;
            let sizes: Vec<f64> = packed.iter().map(|(b, _)| b.len() as f64).collect();
            let compress = each_ns(&rows, |row| (compressor.compress)(row).map(drop))?;
            let decompress = each_ns(&packed, |(bytes, len)| {
                (compressor.decompress)(bytes, *len).map(drop)
            })?;
            let names = compression_names(size, compressor.name);
            let [bytes_name, compress_name, decompress_name] = names;
            figures.push(Figure::exact(bytes_name, "bytes", median(&sizes)));
            figures.push(Figure::new(compress_name, "ns", compress));
            figures.push(Figure::new(decompress_name, "ns", decompress));
        }
    }
    Ok(figures)
}

/// Encoded rows of this size: a city, and a column with the beginning of a JSON document of other
/// cities, since rows grow by such columns.
fn rows_of(cities: &[City], bytes: usize) -> Result<Vec<Vec<u8>>> {
    let per_row = bytes / 200 + 1;
    let others = cities[COMPRESSED_SAMPLE..].chunks(per_row);
    let rows = cities[..COMPRESSED_SAMPLE].iter().zip(others);
    rows.map(|(city, others)| {
        let mut row = rmp_serde::to_vec(city)?;
        row.extend(serde_json::to_vec(others)?);
        row.truncate(bytes);
        Ok(row)
    })
    .collect()
}

/// Nanoseconds per item, of each round; the first is thrown away.
fn each_ns<T>(items: &[T], mut work: impl FnMut(&T) -> Result<()>) -> Result<Vec<f64>> {
    let mut rounds = Vec::with_capacity(ROUNDS + 1);
    for _ in 0..=ROUNDS {
        let began = Instant::now();
        for item in items {
            black_box(work(black_box(item)))?;
        }
        rounds.push(began.elapsed().as_secs_f64() * 1e9 / items.len() as f64);
    }
    Ok(rounds.split_off(1))
}
