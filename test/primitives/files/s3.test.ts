import assert from 'node:assert/strict'
import { spawn } from 'node:child_process'
import { createHash, randomBytes } from 'node:crypto'
import { once } from 'node:events'
import { connect, createServer } from 'node:net'
import { createInterface } from 'node:readline'
import { after, before, describe, it } from 'node:test'
import { fileURLToPath } from 'node:url'
import { openProxy } from '../../../src/chaos/proxy.ts'
import { S3Client, S3Failure } from '../../../src/engines/s3/client.ts'
import { presignedPath, signedHeaders } from '../../../src/engines/s3/signature.ts'
import { isRungError } from '../../../src/kernel/errors.ts'
import { keysOf } from '../../../src/kernel/keys.ts'
import type { FileStore } from '../../../src/primitives/files/contract.ts'
import { createFiles, type Files } from '../../../src/primitives/files/files.ts'
import { s3Files } from '../../../src/primitives/files/s3.ts'
import { parseS3Url } from '../../../src/topology/urls.ts'
import { freePort } from '../../support/ports.ts'
import { noS3, s3AddressOf, s3UrlOf, type TestS3, testS3 } from '../../support/s3.ts'

const mib = 1024 ** 2

describe('signatures of S3', () => {
  // The examples of "Authenticating Requests (AWS Signature Version 4)", Amazon S3 API Reference.
  const signer = {
    accessKey: 'AKIAIOSFODNN7EXAMPLE',
    secretKey: 'wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY',
    region: 'us-east-1',
  }
  const request = { method: 'GET', host: 'examplebucket.s3.amazonaws.com', path: '/test.txt', query: {}, headers: {} }
  const now = new Date('2013-05-24T00:00:00Z')

  it('are those of AWS, in headers and in URLs', () => {
    const empty = createHash('sha256').digest('hex')
    const { authorization } = signedHeaders({ ...request, headers: { range: 'bytes=0-9' } }, empty, signer, now)
    assert.match(authorization!, /Signature=f0e8bdb87c964420e857bd35b5d6ed310bd44f0170aba48dd91039c6036bdb41$/)
    const listing = { ...request, path: '/', query: { 'max-keys': '2', prefix: 'J' } }
    assert.match(
      signedHeaders(listing, empty, signer, now).authorization!,
      /Signature=34b48302e7b5fa45bde8084f4b7868a86f0a534bc59db6670ed5711ef69dc6f7$/,
    )
    assert.match(
      presignedPath(request, 86_400, signer, now),
      /X-Amz-Signature=aeeed9bbccd4d02ee5c0109b86d86835f995330da4c265957d157751f604d404$/,
    )
  })

  it('need a complete URL', () => {
    const { tls, host, port, bucket, prefix, region, accessKey, secretKey } = parseS3Url(
      's3://K%2B:a%2Fb%40@s3.eu-central-1.amazonaws.com/some-bucket/my/app/',
    )!
    assert.deepEqual([tls, host, port, region], [true, 's3.eu-central-1.amazonaws.com', 443, 'eu-central-1'])
    assert.deepEqual([bucket, prefix, accessKey, secretKey], ['some-bucket', 'my/app/', 'K+', 'a/b@'])
    assert.equal(parseS3Url('s3+http://k:s@127.0.0.1:9000/bucket?region=garage')?.region, 'garage')
    assert.equal(parseS3Url('s3://k:s@account.r2.cloudflarestorage.com/bucket')?.region, 'us-east-1')
    for (const wrong of [
      'https://k:s@host/bucket',
      's3://host/bucket',
      's3://k@host/bucket',
      's3://k:s@host/',
      's3://k:s@host/UPPER',
      's3://k:s@host/bucket/a b',
      's3://k:s@host/bucket?acl=public',
      's3://k:%@host/bucket',
    ])
      assert.equal(parseS3Url(wrong), undefined, wrong)
  })
})

describe('files in an S3 store', { skip: noS3 }, () => {
  let s3: TestS3
  let url: string
  let client: S3Client
  let store: FileStore
  let files: Files
  before(async () => {
    s3 = await testS3()
    url = await s3.bucket('files')
    client = new S3Client(s3AddressOf(url))
    store = await s3Files(s3AddressOf(url), assert.ifError)
    files = createFiles(store, keysOf(new Uint8Array(32))).forModule('m')
  })
  after(async () => {
    client?.close()
    await s3?.stop()
  })

  const listed = async (query: Record<string, string>) => (await client.ask({ method: 'GET', query })).text
  /** Drafts, and uploads in parts that nobody has ended. */
  async function left(): Promise<number> {
    const drafts = await listed({ 'list-type': '2', prefix: '.rung/drafts/' })
    const uploads = await listed({ uploads: '' })
    return (drafts.match(/<Contents>/g) ?? []).length + (uploads.match(/<Upload>/g) ?? []).length
  }
  async function* chunksOf(bytes: Uint8Array, failure?: Error) {
    for (let at = 0; at < bytes.length; at += 300_000) yield bytes.subarray(at, at + 300_000)
    if (failure) throw failure
  }

  it('are whole where they need several parts, and leave nothing else', async () => {
    for (const size of [8 * mib - 1, 8 * mib, 8 * mib + 1, 20 * mib]) {
      const bytes = randomBytes(size)
      const info = await files.put('large', chunksOf(bytes), { metadata: { of: 'Ann' } })
      const sha256 = createHash('sha256').update(bytes).digest('hex')
      assert.deepEqual([info.size, info.sha256], [size, sha256])
      const { body, ...facts } = await files.get('large')
      assert.ok(bytes.equals(Buffer.concat(await body.toArray())))
      assert.deepEqual([facts.size, facts.sha256, facts.metadata], [size, sha256, { of: 'Ann' }])
      const end = await files.get('large', { start: -5 })
      assert.deepEqual(Buffer.concat(await end.body.toArray()), bytes.subarray(-5))
      assert.equal(await left(), 0)
    }
  })

  it('stay as they were when an upload of several parts breaks off, is too large or does not match its digest', async () => {
    await files.put('kept', 'before')
    const bytes = randomBytes(9 * mib)
    for (const [source, options, code] of [
      [chunksOf(bytes, new Error('broken')), {}, 'FILES_INCOMPLETE'],
      [chunksOf(bytes), { sizeMax: 9 * mib - 1 }, 'FILES_TOO_LARGE'],
      [chunksOf(bytes), { sha256: '0'.repeat(64) }, 'FILES_CHECKSUM'],
    ] as const) {
      await assert.rejects(files.put('kept', source, options), (error) => isRungError(error, code))
      assert.equal(await left(), 0)
    }
    assert.equal((await files.stat('kept'))?.size, 6)
  })

  it('are not stored by the store itself where a body does not match its digest, or is cut off', async () => {
    const { headers } = await client.ask({ method: 'HEAD', key: 'm/kept' })
    const wrong = { bytes: Buffer.from('other bytes'), sha256: createHash('sha256').update('these').digest('hex') }
    await assert.rejects(client.ask({ method: 'PUT', key: 'm/kept', body: wrong }), (error) => {
      return error instanceof S3Failure && error.status === 400
    })
    const { origin } = s3
    const path = new URL(client.presigned({ method: 'PUT', key: 'm/kept', headers: { 'content-length': '1000' } }, 60))
    const socket = connect(Number(new URL(origin).port), '127.0.0.1')
    socket.end(
      `PUT ${path.pathname}${path.search} HTTP/1.1\r\nhost: ${path.host}\r\ncontent-length: 1000\r\n\r\ncut off`,
    )
    socket.resume()
    await once(socket, 'close')
    assert.equal((await client.ask({ method: 'HEAD', key: 'm/kept' })).headers.etag, headers.etag)
  })

  it('say where a store cannot refuse to replace a large file', async () => {
    // Ceph 16 keeps the condition for a PUT, and ignores it for an upload in parts.
    const bytes = randomBytes(9 * mib)
    const put = files.put('new', chunksOf(bytes), { ifAbsent: true })
    await assert.rejects(put, (error) => isRungError(error, 'FILES_OPTION_INVALID') && /ifAbsent/.test(error.message))
    assert.equal(await files.stat('new'), undefined)
    assert.equal(await left(), 0)
  })

  it('one of many writers wins, whole, with its own facts', async () => {
    const contents = [randomBytes(100), randomBytes(9 * mib), randomBytes(1 * mib), randomBytes(10 * mib)]
    await Promise.all(contents.map((bytes) => files.put('raced', chunksOf(bytes))))
    const { body, size, sha256 } = await files.get('raced')
    const found = Buffer.concat(await body.toArray())
    assert.ok(contents.some((bytes) => bytes.equals(found)))
    assert.deepEqual([found.length, createHash('sha256').update(found).digest('hex')], [size, sha256])
    assert.equal(await left(), 0)
  })

  it('are never there in part when a process is killed while it uploads', async () => {
    const putter = fileURLToPath(new URL('../../support/put-to-s3-and-die.ts', import.meta.url))
    await files.put('killed', 'the first content')
    for (const chunk of [1, 100, 150, 290, 319, 320]) {
      const child = spawn(process.execPath, ['--conditions=rung-source', putter, url, 'killed'], {
        stdio: ['ignore', 'pipe', 'inherit'],
      })
      const ended = once(child, 'close')
      for await (const said of createInterface(child.stdout)) if (said === `chunk ${chunk}`) child.kill('SIGKILL')
      await ended
      const { body, size, sha256 } = await files.get('killed')
      const found = Buffer.concat(await body.toArray())
      assert.ok([17, 320 * 64 * 1024].includes(size))
      assert.deepEqual([found.length, createHash('sha256').update(found).digest('hex')], [size, sha256])
    }
  })

  it('that something else has stored are refused, and not taken for files of Rung', async () => {
    await client.ask({ method: 'PUT', key: 'm/foreign' })
    await assert.rejects(files.get('foreign'), (error) => isRungError(error, 'FILES_DAMAGED'))
    await client.ask({ method: 'DELETE', key: 'm/foreign' })
  })

  it('fail with a reason at the start, where the settings are wrong', async () => {
    for (const [wrong, reason] of [
      [s3UrlOf(s3, 'no-such-bucket'), /there is no bucket "no-such-bucket"/],
      [s3UrlOf(s3, 'files', { accessKey: 'OTHER', secretKey: 'x' }), /does not know the access key/],
      [s3UrlOf(s3, 'files', { accessKey: 'TESTKEY', secretKey: 'wrong' }), /the secret key is wrong/],
      ['s3://k:s@no-such-host.invalid/bucket', /there is no host no-such-host\.invalid/],
    ] as const) {
      const starting = s3Files(s3AddressOf(wrong), assert.ifError)
      await assert.rejects(starting, (error) => {
        return (
          isRungError(error, 'CONFIG_INVALID') && reason.test(error.message) && !/wrong:|secret\+of/.test(error.message)
        )
      })
    }
  })

  it('fail with 503 while the store is away, and a start says so', async () => {
    const port = await freePort()
    const told: S3Failure[] = []
    const away = await s3Files({ ...s3AddressOf(url), port, host: `127.0.0.1:${port}` }, (failure) =>
      told.push(failure),
    )
    assert.deepEqual(
      told.map(({ code }) => code),
      ['ECONNREFUSED'],
    )
    for (const asking of [away.stat('m/a'), away.get('m/a'), away.delete('m/a'), away.list('m/', undefined, 1)]) {
      await assert.rejects(asking, (error) => isRungError(error, 'FILES_UNAVAILABLE') && !/127/.test(error.message))
    }
  })

  it('that break off while they are read fail, and many that are read slowly hold nobody up', async () => {
    await files.put('long', randomBytes(32 * mib))
    await files.put('short', randomBytes(mib))
    const proxy = await openProxy({ host: '127.0.0.1', port: Number(new URL(s3.origin).port) })
    // The signature is for the host that the address names.
    const through = await s3Files({ ...s3AddressOf(url), port: proxy.port }, assert.ifError)
    const slow = await Promise.all(Array.from({ length: 100 }, () => through.get('m/short')))
    assert.equal((await through.stat('m/short'))?.size, mib)
    for (const file of slow) file!.body.destroy()
    const long = (await through.get('m/long'))!
    proxy.cut()
    await assert.rejects(long.body.toArray())
    proxy.close()
  })

  it('are asked for again after a connection broke', async () => {
    let broken = 0
    const proxy = createServer((socket) => {
      broken += 1
      socket.destroy()
    }).listen(0, '127.0.0.1')
    await once(proxy, 'listening')
    const { port } = proxy.address() as { port: number }
    const through = new S3Client({ ...s3AddressOf(url), port })
    await assert.rejects(through.ask({ method: 'HEAD', key: 'm/kept' }), (error) => {
      return error instanceof S3Failure && error.status === 0 && error.attempts === 3
    })
    assert.equal(broken, 3)
    proxy.close()
  })
})
