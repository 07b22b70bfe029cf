import assert from 'node:assert/strict'
import { mkdir, writeFile } from 'node:fs/promises'
import path from 'node:path'
import { describe, it } from 'node:test'
import { type Catalogue, readCatalogue, type Segment, type Timeline } from '../../src/backup/catalogue.ts'
import { type BaseManifest, segmentIndex, segmentName } from '../../src/backup/layout.ts'
import { choose, currentTimeline, expendable, missing, ranges, rivals, windows } from '../../src/backup/policy.ts'
import { seal, unseal } from '../../src/backup/sealed.ts'
import { readTar, type TarEntry } from '../../src/backup/tar.ts'
import { formatLsn } from '../../src/kernel/position.ts'
import { withTempDir } from '../support/postgres.ts'

const segmentBytes = 16 * 1024 ** 2

/** A base backup that begins in segment `index` and ends there; times in s. */
function base(index: number, finishedAt: number, timeline = 1): BaseManifest {
  const lsn = formatLsn(BigInt(index * segmentBytes + 1000))
  const id = `base-${index}`
  return {
    id,
    system: '1',
    postgres: '18',
    timeline,
    startLsn: lsn,
    stopLsn: lsn,
    startedAt: 0,
    finishedAt,
    segmentBytes,
    files: [],
  }
}

/** Full segments, the last one half full; each is archived at ten times its number. */
function segments(indexes: readonly number[], timeline = 1): Segment[] {
  return indexes.map((index, n) => ({
    name: segmentName(timeline, index, segmentBytes),
    bytes: n === indexes.length - 1 ? segmentBytes / 2 : segmentBytes,
    sha256: '',
    openedAt: index * 10,
    at: index * 10 + 9,
    continues: indexes.includes(index - 1),
    system: '1',
    timeline,
    index,
    growing: n === indexes.length - 1,
  }))
}

function timeline(id: number, indexes: readonly number[], ancestors: Timeline['ancestors'] = []): Timeline {
  return { id, segments: segments(indexes, id), ancestors, position: undefined }
}

function catalogue(bases: BaseManifest[], ...timelines: Timeline[]): Catalogue {
  return { system: '1', folder: '', bases, timelines, faults: [] }
}

const spans = (all: Catalogue) => ranges(windows(all, currentTimeline(all)!)).map(({ from, to }) => [from, to])

describe('which base backup for which time', () => {
  const all = catalogue([base(2, 25), base(5, 55)], timeline(1, [2, 3, 4, 5, 6]))
  const found = windows(all, all.timelines[0]!)

  it('takes the newest one before it', () => {
    assert.equal(choose(found, 54)?.base.id, 'base-2')
    assert.equal(choose(found, 55)?.base.id, 'base-5')
    assert.equal(choose(found, 69)?.base.id, 'base-5')
    assert.equal(choose(found, 'latest')?.base.id, 'base-5')
  })

  it('takes none for a time before the first or after the last position', () => {
    assert.equal(choose(found, 24), undefined)
    assert.equal(choose(found, 70), undefined)
    assert.deepEqual(spans(all), [[25, 69]])
  })

  it('does not reach over a gap in the log, and a base backup whose own log is missing is none', () => {
    assert.deepEqual(spans(catalogue([base(2, 25), base(5, 55)], timeline(1, [2, 3, 5, 6]))), [
      [25, 39],
      [55, 69],
    ])
    assert.deepEqual(spans(catalogue([base(2, 25), base(5, 55)], timeline(1, [3, 4, 5, 6]))), [[55, 69]])
  })

  it('follows the timelines of a restored database, and stays off those of others', () => {
    const left = { timeline: 1, end: BigInt(4 * segmentBytes + 5) }
    const first = timeline(1, [2, 3, 4, 5])
    const second = timeline(2, [4, 5, 6], [left])
    const both = catalogue([base(2, 25), base(5, 55)], first, second)
    assert.equal(currentTimeline(both), second)
    const [only, ...rest] = windows(both, second)
    assert.deepEqual(rest, [], 'what was backed up after it branched off is not its own past')
    assert.deepEqual(
      only!.segments.map(({ name }) => name.slice(0, 8).at(-1) + name.slice(-1)),
      ['12', '13', '24', '25', '26'],
    )
    assert.equal(windows(both, first).length, 2)
  })
})

describe('which timeline counts', () => {
  const s = 1000
  /** Archived from one time to another; in s. */
  const archived = (id: number, from: number, to: number): Timeline => {
    const one = timeline(id, [id])
    return { ...one, segments: one.segments.map((segment) => ({ ...segment, openedAt: from * s, at: to * s })) }
  }
  const against = (...timelines: Timeline[]) => {
    const all = catalogue([], ...timelines)
    return rivals(all, currentTimeline(all)!).map(({ id }) => id)
  }

  it('is the last one after a failover or a restore', () => {
    assert.deepEqual(against(archived(1, 0, 5000), archived(2, 5002, 6000)), [])
    assert.deepEqual(against(archived(1, 0, 5000), archived(2, 9000, 9001)), [])
  })

  it('is not clear where a machine that was given up went on, or a copy beside it', () => {
    assert.deepEqual(against(archived(1, 0, 7000), archived(2, 5000, 6000)), [2])
    assert.deepEqual(against(archived(1, 0, 7000), archived(2, 5000, 8000)), [1])
  })
})

describe('what may go', () => {
  it('is the base backups beyond the newest, and the log before the oldest that stays', () => {
    const all = catalogue([base(2, 25), base(4, 45), base(6, 65)], timeline(1, [2, 3, 4, 5, 6, 7]))
    const { bases, segments: gone } = expendable(all, 2)
    assert.deepEqual(
      bases.map(({ id }) => id),
      ['base-2'],
    )
    assert.deepEqual(
      gone.map(({ index }) => index),
      [2, 3],
    )
  })

  it('is nothing where no more than those are there, and never the log of which nobody has a base backup', () => {
    const all = catalogue([base(2, 25)], timeline(1, [1, 2, 3]))
    assert.deepEqual(
      expendable(all, 1).segments.map(({ index }) => index),
      [1],
    )
    assert.deepEqual(expendable(catalogue([], timeline(1, [1, 2])), 1), { bases: [], segments: [] })
  })

  it('are kept for each of two copies that go on beside each other, and until the newest can be restored', () => {
    // A restore went on as timeline 2 from segment 4 on, and the original beside it.
    const original = timeline(1, [2, 3, 4, 5, 6, 7, 8, 9])
    const restored = timeline(2, [4, 5, 6, 7, 8], [{ timeline: 1, end: BigInt(4 * segmentBytes + 500) }])
    for (const { segments } of [original, restored]) for (const one of segments) one.at *= 60_000
    for (const one of [original, restored].flatMap(({ segments }) => segments)) one.openedAt *= 60_000
    const minutes = (index: number) => index * 10 * 60_000 + 5
    const bases = [
      base(2, minutes(2)),
      { ...base(5, minutes(5), 2), id: 'base-5b' },
      base(6, minutes(6)),
      base(8, minutes(8)),
    ]
    const all = catalogue(bases, original, restored)
    assert.deepEqual(
      expendable(all, 1).bases.map(({ id }) => id),
      ['base-2', 'base-6'],
    )
    const ahead = { ...base(12, minutes(12)), id: 'base-9' }
    assert.deepEqual(
      expendable(catalogue([...bases, ahead], original), 1).bases.map(({ id }) => id),
      ['base-2', 'base-5b', 'base-6'],
    )
  })
})

describe('continuity', () => {
  it('names each segment that was there once', () => {
    const all = catalogue([base(2, 25)], timeline(1, [2, 3, 4, 5, 6, 7]))
    all.timelines[0]!.segments.splice(2, 2)
    assert.deepEqual(missing(all), ['000000010000000000000004', '000000010000000000000005'])
  })

  it('accepts what was never archived, and what no base backup needs any more', () => {
    assert.deepEqual(missing(catalogue([base(2, 25)], timeline(1, [2, 3, 6, 7]))), [])
    const old = catalogue([base(6, 65)], timeline(1, [5, 6, 7]))
    old.timelines[0]!.segments[0]!.continues = true
    assert.deepEqual(missing(old), [])
  })
})

describe('names of segments', () => {
  it('count in hexadecimal, 256 to a gigabyte times four', () => {
    assert.equal(segmentName(1, 0xaff, segmentBytes), '000000010000000A000000FF')
    for (const index of [0, 255, 256, 123_456]) {
      assert.equal(segmentIndex(segmentName(7, index, segmentBytes), segmentBytes), index)
    }
  })
})

it('has no base backup whose description names a file elsewhere', () =>
  withTempDir(async (dir) => {
    const described = async (id: string, changes: Partial<BaseManifest>) => {
      const folder = path.join(dir, '1', 'base', id)
      await mkdir(folder, { recursive: true })
      await writeFile(path.join(folder, 'backup.json'), seal({ ...base(1, 1), id, ...changes }))
    }
    const file = (name: string) => [{ name, bytes: 0, sha256: '' }]
    await described('good', { files: file('base.tar.zst') })
    await described('evil', { files: file('../evil') })
    await described('dots', { files: file('..') })
    await described('other', { id: '../../elsewhere' })
    const { bases, faults } = await readCatalogue(dir, '1')
    assert.deepEqual(
      bases.map(({ id }) => id),
      ['good'],
    )
    assert.equal(faults.length, 3)
  }))

describe('sealed text', () => {
  it('is given back as it was, or not at all', () => {
    const text = seal({ a: 1, nested: { b: ['x'] } })
    assert.deepEqual(unseal(text), { a: 1, nested: { b: ['x'] } })
    assert.equal(unseal(text.replace('"x"', '"y"')), undefined)
    for (let end = 0; end < text.trimEnd().length; end += 1) assert.equal(unseal(text.slice(0, end)), undefined)
  })
})

describe('tar', () => {
  function header(name: string, type: string, bytes: number): Buffer {
    const block = Buffer.alloc(512)
    block.write(name, 0)
    block.write(`${bytes.toString(8).padStart(11, '0')}\0`, 124)
    block.write('        ', 148)
    block.write(type, 156)
    const sum = block.reduce((total, byte) => total + byte, 0)
    block.write(`${sum.toString(8).padStart(6, '0')}\0 `, 148)
    return block
  }
  const padded = (text: string) => Buffer.concat([Buffer.from(text), Buffer.alloc(512 - text.length)])
  const archive = Buffer.concat([
    header('base', '5', 0),
    header('base/1', '0', 5),
    padded('hello'),
    header('empty', '0', 0),
    Buffer.alloc(1024),
  ])

  async function read(bytes: Buffer, pieceBytes: number): Promise<string[]> {
    async function* pieces() {
      for (let at = 0; at < bytes.length; at += pieceBytes) yield bytes.subarray(at, at + pieceBytes)
    }
    const found: string[] = []
    for await (const part of readTar(pieces())) {
      if (Buffer.isBuffer(part)) found[found.length - 1] += part.toString()
      else found.push(`${(part as TarEntry).kind} ${part.name} `)
    }
    return found
  }

  it('is read alike, however it is cut', async () => {
    for (const pieceBytes of [1, 7, 511, 512, 513, 4096]) {
      assert.deepEqual(await read(archive, pieceBytes), ['folder base ', 'file base/1 hello', 'file empty '])
    }
  })

  it('is refused where it is damaged or ends early', async () => {
    const changed = Buffer.from(archive)
    changed[3]! ^= 1
    await assert.rejects(read(changed, 4096), /damaged/)
    await assert.rejects(read(archive.subarray(0, 1026), 4096), /too early/)
  })
})
