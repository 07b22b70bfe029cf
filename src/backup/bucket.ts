import { createHash } from 'node:crypto'
import { buffer } from 'node:stream/consumers'
import { promisify } from 'node:util'
import { zstdDecompress } from 'node:zlib'
import { S3Client, S3Failure } from '../engines/s3/client.ts'
import { listObjects, orAbsent, sha256Of } from '../engines/s3/objects.ts'
import { probe } from '../engines/s3/probe.ts'
import { isRungError, messageOf, RungError } from '../kernel/errors.ts'
import { formatLsn } from '../kernel/position.ts'
import { secret } from '../kernel/random.ts'
import { parseS3Url } from '../topology/urls.ts'
import { type Catalogue, type Fault, isManifestOf, isSystem, type Timeline } from './catalogue.ts'
import { cipherOf } from './cipher.ts'
import { DamagedFile, decompressed } from './content.ts'
import { parseHistory } from './history.ts'
import { type BucketManifest, historyName, lsnOf, names, timelineName } from './layout.ts'
import { byClaim, chainOf, isToken, type Piece, parsePiece, pieceName, segmentFolder, segmentsOf } from './pieces.ts'
import type { Place } from './place.ts'

const unzstd = promisify(zstdDecompress)

/**
 * Backups in a bucket of an S3 store. Every object is encrypted under its name below the prefix, which the drawing has; a whole bucket can be copied
 * elsewhere, and is read there.
 *
 *   7710800039879746486/              the system identifier
 *     base/20261103T101112.345Z/      a base backup
 *       base.tar.zst/00000 …          its files, in pieces of 4 MiB
 *       secret/00000                  root of the app's keys
 *       backup.json                   written last: without it there is no backup
 *     wal/00000001/<segment>/…        the log of timeline 1: see `pieces.ts`
 *     wal/00000001/claim-000003-k3v9  who writes it
 *     wal/00000002.history            where timeline 2 branched off
 *
 * No object is ever replaced by another content, except that a claim is removed for a later one.
 */
export interface Bucket extends Place {
  /** @throws CONFIG_INVALID if it can never be used. Returns what is in its way now. */
  check(): Promise<string | undefined>
  /** Returns the names below a prefix, in their order, with the bytes of each. */
  list(prefix: string): Promise<Map<string, number>>
  put(name: string, content: Uint8Array, options?: PutOptions): Promise<void>
  /** @returns false if the store refuses to: it keeps objects for a time */
  remove(names: readonly string[]): Promise<boolean>
  pieces(system: string): Promise<Piece[]>
  close(): void
}

interface PutOptions {
  /** How long one attempt may take; otherwise a minute. */
  deadlineMs?: number
  /** Some stores ignore it. */
  ifAbsent?: boolean
}

export interface BucketOptions {
  /** As `files.url`: `s3://key:secret@host/bucket/folder?region=…` */
  url: string
  /** The user's key, from which the key of each object is derived. */
  key: string
}

const attemptsMax = 3
/** Read ahead, or deleted, at the same time. */
const atOnce = 4

export function openBucket({ url, key }: BucketOptions): Bucket {
  const address = parseS3Url(url)!
  const client = new S3Client(address)
  const cipher = cipherOf(key)
  const { prefix } = address
  const name = `the bucket ${address.bucket}${prefix && `/${prefix.slice(0, -1)}`} at ${address.host}`

  const reach = async <T>(ask: () => Promise<T>): Promise<T> =>
    ask().catch((cause) => {
      if (!(cause instanceof S3Failure)) throw cause
      throw new RungError(
        'BACKUP_UNREACHABLE',
        `${name[0]!.toUpperCase()}${name.slice(1)} cannot be used now: ${cause.message}. Nothing is lost; try again when it answers.`,
        { cause },
      )
    })

  async function list(below: string): Promise<Map<string, number>> {
    const limit = Number.POSITIVE_INFINITY
    const { objects } = await reach(() => listObjects(client, prefix + below, { after: undefined, limit }))
    return new Map(objects.map(({ key: found, size }) => [found.slice(prefix.length), size]))
  }

  /** @throws DamagedFile */
  async function get(object: string): Promise<Buffer> {
    const sealed = await reach(() => fetchWhole(object))
    if (sealed === undefined) throw new DamagedFile(object, 'is missing')
    return cipher.open(object, sealed)
  }

  async function fetchWhole(object: string): Promise<Buffer | undefined> {
    for (let attempt = 1; ; attempt += 1) {
      const response = await orAbsent(() => client.open({ method: 'GET', key: prefix + object }))
      if (response === undefined) return undefined
      try {
        return await buffer(response)
      } catch (cause) {
        const message = `${address.host} broke off an answer: ${messageOf(cause)}`
        if (attempt === attemptsMax) throw new S3Failure(message, { code: 'ECONNRESET', status: 0, cause })
      }
    }
  }

  async function put(object: string, content: Uint8Array, { deadlineMs, ifAbsent }: PutOptions = {}): Promise<void> {
    const bytes = await cipher.seal(object, content)
    const headers = {
      'content-md5': createHash('md5').update(bytes).digest('base64'), // a bucket that locks its objects demands it
      ...(ifAbsent && { 'if-none-match': '*' }),
    }
    const body = { bytes, sha256: await sha256Of(bytes) }
    const request = { method: 'PUT', key: prefix + object, headers, body } as const
    await reach(() => client.ask({ ...request, ...(deadlineMs !== undefined && { deadlineMs }) }))
  }

  /** Pieces of one content, of which some are fetched ahead. */
  async function* inOrder(
    objects: readonly string[],
    read: (object: string) => Promise<Buffer>,
  ): AsyncGenerator<Buffer> {
    const ahead: Promise<Buffer>[] = []
    for (let next = 0; next < objects.length || ahead.length > 0; ) {
      while (ahead.length < atOnce && next < objects.length) {
        const one = read(objects[next]!)
        one.catch(() => {}) // thrown when its turn comes
        ahead.push(one)
        next += 1
      }
      yield await ahead.shift()!
    }
  }

  async function pieces(system: string): Promise<Piece[]> {
    return piecesIn(system, (await list(`${system}/wal/`)).keys())
  }

  async function historiesOf(system: string, objects: Iterable<string>): Promise<Map<string, string>> {
    const found = [...objects].filter((object) => /^\d+\/wal\/[0-9A-F]{8}\.history$/.test(object))
    const texts = found.map(
      async (object) => [object.slice(`${system}/wal/`.length), String(await get(object))] as const,
    )
    return new Map(await Promise.all(texts))
  }

  async function catalogue(system: string): Promise<Catalogue> {
    const objects = [...(await list(`${system}/`)).keys()]
    const faults: Fault[] = []
    const bases: BucketManifest[] = []
    const unfinished = new Set<string>()
    let otherKey: RungError | undefined
    for (const object of objects) {
      const [, id, file] = /^\d+\/base\/([^/]+)\/(.+)$/.exec(object) ?? []
      if (id === undefined) continue
      unfinished.add(id)
      if (file !== 'backup.json') continue
      const manifest = await readManifest(object).catch((error) => {
        if (isRungError(error, 'BACKUP_KEY_WRONG')) otherKey = error
        else if (!(error instanceof DamagedFile)) throw error
      })
      if (manifest && isManifestOf(manifest, id)) bases.push(manifest)
      else faults.push({ file: object.slice(system.length + 1), what: 'was changed; this base backup cannot be used' })
    }
    if (otherKey && bases.length === 0) throw otherKey
    const segmentBytes = bases[0]?.segmentBytes ?? 16 * 1024 ** 2
    const histories = await historiesOf(system, objects)
    const byTimeline = Map.groupBy(piecesIn(system, objects), ({ timeline }) => timeline)
    const timelines = [...byTimeline].map(([id, own]): Timeline => {
      const segments = segmentsOf(system, own, segmentBytes)
      const last = segments.at(-1)
      const position = last && { ...last, lsn: formatLsn(lsnOf(last.index, last.bytes, segmentBytes)) }
      return { id, segments, ancestors: parseHistory(histories.get(historyName(id)) ?? ''), position }
    })
    for (const { id } of bases) unfinished.delete(id)
    return { system, folder: `${name}, ${system}`, bases, timelines, faults, unfinished: [...unfinished] }
  }

  async function readManifest(object: string): Promise<BucketManifest> {
    return JSON.parse(String(await get(object)))
  }

  return {
    name,
    check: async () => (await probe(client, address, 'RUNG_BACKUP_S3_URL'))?.message,
    list,
    put,
    pieces,
    catalogue,
    async systems() {
      const found = new Set([...(await list('')).keys()].map((object) => object.split('/')[0]!))
      return [...found].filter(isSystem)
    },
    readFile({ system, id, ...base }, { name: file }) {
      const count = (base as unknown as BucketManifest).pieces[file] ?? 0
      const objects = Array.from({ length: count }, (_, n) => fileObject(system, id, file, n))
      const stored = inOrder(objects, get)
      return file.endsWith('.zst') ? decompressed(stored) : stored
    },
    readSegment: ({ system, pieces: parts }) =>
      inOrder(parts!, async (part) => {
        const compressed = await get(`${system}/${part}`)
        return unzstd(compressed).catch(() => {
          throw new DamagedFile(part, 'was changed: it cannot be decompressed')
        })
      }),
    async *readBehind() {},
    async renewed(segment) {
      const known = parsePiece(segment.pieces!.at(-1)!)!
      if (!segment.growing && segment.pieces!.length === 1) return segment
      const found = await list(`${segment.system}/${segmentFolder(segment)}`)
      const chain = chainOf(piecesIn(segment.system, found.keys()).filter(({ before }) => before === known.before))
      if (!segment.growing && chain.at(-1)?.sha256 !== segment.sha256) return segment // another writer's
      const parts = chain.map(pieceName)
      if (chain.length === 0 || parts.join() === segment.pieces!.join()) return segment
      const { bytes, sha256, at } = chain.at(-1)!
      return { ...segment, bytes, sha256, at, pieces: parts }
    },
    histories: async (system) => historiesOf(system, (await list(`${system}/wal/`)).keys()),
    async reserve(system, file, text) {
      const object = `${system}/wal/${file}`
      if ((await list(object)).size > 0) return false
      return put(object, Buffer.from(text), { ifAbsent: true }).then(
        () => true,
        (error) => {
          if (statusOf(error) === 403) return true // whoever restores with keys that only read archives elsewhere
          if (statusOf(error) === 412) return false
          throw error
        },
      )
    },
    async remove(objects) {
      let allowed = true
      for (let at = 0; at < objects.length; at += atOnce) {
        await Promise.all(
          objects.slice(at, at + atOnce).map((object) =>
            reach(() => orAbsent(() => client.ask({ method: 'DELETE', key: prefix + object }))).catch((error) => {
              if (!refusals.has(statusOf(error)!)) throw error
              allowed = false
            }),
          ),
        )
      }
      return allowed
    },
    close: () => client.close(),
  }
}

/** What stores answer to the removal of an object that they keep for a time. */
const refusals = new Set([400, 403, 405, 409])

/** The status of the store's answer, if it was one. */
function statusOf(error: unknown): number | undefined {
  const { cause } = error as Error
  return cause instanceof S3Failure ? cause.status : undefined
}

function piecesIn(system: string, objects: Iterable<string>): Piece[] {
  return [...objects].flatMap((object) => parsePiece(object.slice(system.length + 1)) ?? [])
}

/** The name of one object of a file of a base backup. */
export function fileObject(system: string, id: string, file: string, n: number): string {
  return `${system}/base/${id}/${file}/${String(n).padStart(5, '0')}`
}

export function manifestObject(system: string, id: string): string {
  return `${system}/base/${id}/${names.manifest}`
}

const claimsOf = (system: string, timeline: number) => `${system}/wal/${timelineName(timeline)}/claim-`

/** Returns the tokens of the claims of a timeline, the latest last. */
async function tokensOf(bucket: Bucket, system: string, timeline: number): Promise<string[]> {
  const all = claimsOf(system, timeline)
  const found = [...(await bucket.list(all)).keys()].map((object) => object.slice(all.length))
  return found.filter(isToken).sort(byClaim)
}

/**
 * Claims a timeline for this writer. What earlier writers still write does not count any more, and they find out.
 * @returns its token
 * @throws BACKUP_FAILED if there is no later number
 */
export async function claim(bucket: Bucket, system: string, timeline: number, who: object): Promise<string> {
  const all = claimsOf(system, timeline)
  const earlier = await tokensOf(bucket, system, timeline)
  const number = 1 + Number(earlier.at(-1)?.split('-')[0] ?? 0)
  const own = `${String(number).padStart(6, '0')}-${secret(6).toLowerCase().replace(/[-_]/g, '0')}`
  if (!isToken(own)) {
    throw new RungError(
      'BACKUP_FAILED',
      `${bucket.name} has a claim with the number ${number - 1}, after which there is none. Nothing is lost; name another folder of the bucket in RUNG_BACKUP_S3_URL.`,
    )
  }
  await bucket.put(`${all}${own}`, Buffer.from(JSON.stringify(who)))
  await bucket.remove(earlier.map((token) => `${all}${token}`))
  return own
}

/** Whether the claim with this token is the latest. */
export async function holds(bucket: Bucket, system: string, timeline: number, token: string): Promise<boolean> {
  return (await tokensOf(bucket, system, timeline)).at(-1) === token
}
