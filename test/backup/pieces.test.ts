import assert from 'node:assert/strict'
import { randomBytes } from 'node:crypto'
import { describe, it } from 'node:test'
import type { Catalogue, Segment } from '../../src/backup/catalogue.ts'
import { cipherOf } from '../../src/backup/cipher.ts'
import { DamagedFile } from '../../src/backup/content.ts'
import type { BaseManifest } from '../../src/backup/layout.ts'
import { segmentName } from '../../src/backup/layout.ts'
import { type Piece, parsePiece, pieceName, replaced, segmentsOf } from '../../src/backup/pieces.ts'
import { lacking } from '../../src/backup/policy.ts'
import { isRungError } from '../../src/kernel/errors.ts'

const size = 16 * 1024 ** 2
const digest = (digit: string) => digit.repeat(64)

function piece(index: number, from: number, bytes: number, changes: Partial<Piece> = {}): Piece {
  return {
    ...{ timeline: 1, name: segmentName(1, index, size), token: '000001-a', from, bytes, openedAt: index, at: bytes },
    ...{ continues: true, before: '0', sha256: digest(String(index % 10)) },
    ...changes,
  }
}

/** What a reader makes of it: number, bytes and number of pieces of each segment. */
const read = (pieces: Piece[]) =>
  segmentsOf('1', pieces, size).map((one) => [one.index, one.bytes, one.pieces!.length, one.growing])

describe('the log in a bucket', () => {
  it('is read from names', () => {
    const one = piece(7, 5, 12, { token: '000012-k3v9', before: 'abcdef0123456789' })
    assert.deepEqual(parsePiece(pieceName(one)), one)
    for (const wrong of ['wal/00000001/claim-000001-a', 'wal/00000002.history', `${pieceName(one)}x`])
      assert.equal(parsePiece(wrong), undefined)
  })

  it('is the longest of the pieces that follow each other', () => {
    const early = [piece(3, 0, 10), piece(3, 0, 20), piece(3, 20, 25), piece(3, 20, 28)]
    assert.deepEqual(read(early), [[3, 28, 2, true]])
    assert.deepEqual(read([...early, piece(3, 0, size)]), [[3, size, 1, false]])
    assert.deepEqual(read([piece(3, 20, 28)]), [], 'without its begin there is nothing')
    assert.deepEqual(read([piece(3, 0, 20), piece(3, 21, 28)]), [[3, 20, 1, true]], 'it ends before a hole')
    assert.deepEqual(read([piece(3, 0, 0)]), [[3, 0, 1, true]])
  })

  it('never mixes two writers: the later claim counts', () => {
    const later = { token: '000002-z' }
    assert.deepEqual(read([piece(3, 0, 20), piece(3, 20, 30), piece(3, 0, 20, later)]), [[3, 20, 1, true]])
    assert.deepEqual(read([piece(3, 0, size), piece(3, 0, 5, later)]), [[3, 5, 1, true]])
  })

  it('has no segment that was made of another log', () => {
    const before = (digit: string) => digit.repeat(16)
    const whole = piece(3, 0, size)
    assert.deepEqual(read([whole, piece(4, 0, 9, { before: before('7') })]), [[3, size, 1, false]])
    assert.deepEqual(read([whole, piece(4, 0, 9, { before: before('3') })]).length, 2)
    const both = [piece(4, 0, 99, { before: before('7'), token: '000009-a' }), piece(4, 0, 9, { before: before('3') })]
    assert.deepEqual(read([whole, ...both]).at(-1), [4, 9, 1, true])
  })

  it('drops only what others contain', () => {
    const pieces = [piece(3, 0, 10), piece(3, 0, 20), piece(3, 20, 28), piece(4, 0, 5), piece(9, 5, 8)]
    assert.deepEqual(
      replaced('1', pieces, size).map(({ name, from, bytes }) => [name.slice(-1), from, bytes]),
      [['3', 0, 10]],
    )
    assert.equal(replaced('1', [...pieces, piece(3, 0, size)], size).length, 3)
  })
})

describe('what the bucket lacks', () => {
  const base = (index: number): BaseManifest => ({
    ...{ id: `base-${index}`, system: '1', postgres: '18', timeline: 1, startedAt: 0, finishedAt: 0 },
    ...{ startLsn: `0/${(index * size).toString(16)}`, stopLsn: `0/${(index * size).toString(16)}` },
    ...{ segmentBytes: size, files: [] },
  })
  const segment = (index: number, growing = false): Segment => ({
    ...piece(index, 0, growing ? 5 : size),
    ...{ system: '1', index, growing },
  })
  const catalogue = (bases: number[], indexes: number[]): Catalogue => {
    const segments = indexes.map((index) => segment(index))
    return {
      ...{ system: '1', folder: '', faults: [], bases: bases.map(base) },
      timelines: [{ id: 1, segments, ancestors: [], position: undefined }],
    }
  }
  const of = (here: Catalogue, there: Catalogue) => {
    const { bases, segments } = lacking(here, there, here.timelines[0]!)
    return [bases.map(({ id }) => id), segments.map(({ index }) => index)]
  }

  it('is the newest base backup first, and what follows it', () => {
    assert.deepEqual(of(catalogue([2, 5], [2, 3, 4, 5, 6]), catalogue([], [])), [['base-5'], [5, 6]])
  })

  it('is then everything, but what it has removed because of its age', () => {
    const here = catalogue([2, 5, 7, 8], [2, 3, 4, 5, 6, 7, 8])
    assert.deepEqual(of(here, catalogue([5, 7], [5, 6])), [['base-8'], [7, 8]])
    assert.deepEqual(of(here, catalogue([5, 8], [5, 7])), [['base-7'], [6, 8]], 'also what is missing in between')
  })

  it('is not the growing segment, and a segment of which it has only a part', () => {
    const here = catalogue([2], [2, 3])
    here.timelines[0]!.segments.push(segment(4, true))
    const there = catalogue([2], [2])
    there.timelines[0]!.segments.push({ ...segment(3), bytes: 7 })
    assert.deepEqual(of(here, there), [[], [3]])
  })
})

describe('an object of the bucket', () => {
  const cipher = cipherOf('k'.repeat(32))
  const content = randomBytes(1000)

  it('is read under its own name with its own key, and never the same twice', async () => {
    const sealed = await cipher.seal('a/b', content)
    assert.deepEqual(await cipher.open('a/b', sealed), content)
    assert.notDeepEqual(await cipher.seal('a/b', content), sealed)
    assert.equal((await cipher.open('empty', await cipher.seal('empty', Buffer.alloc(0)))).length, 0)
  })

  it('is refused if a byte was changed, it was cut off, or has the name of another', async () => {
    const sealed = await cipher.seal('a/b', content)
    for (let at = 0; at < sealed.length; at += 1) {
      const changed = Buffer.from(sealed)
      changed[at]! ^= 1
      // A changed id looks like another key.
      const isRefused = (error: unknown) => error instanceof DamagedFile || isRungError(error, 'BACKUP_KEY_WRONG')
      await assert.rejects(cipher.open('a/b', changed), isRefused)
    }
    for (const bytes of [0, 7, 63, 64, sealed.length - 1])
      await assert.rejects(cipher.open('a/b', sealed.subarray(0, bytes)), DamagedFile)
    await assert.rejects(cipher.open('a/c', sealed), DamagedFile)
  })

  it('says which key is needed', async () => {
    const other = cipherOf('o'.repeat(32))
    await assert.rejects(other.open('a/b', await cipher.seal('a/b', content)), (error) => {
      return (
        isRungError(error, 'BACKUP_KEY_WRONG') &&
        error.message.includes(cipher.keyId) &&
        error.message.includes(other.keyId)
      )
    })
  })
})
