import type { Readable } from 'node:stream'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { isRungError } from '../../kernel/errors.ts'
import type { FileInfo, Range } from './contract.ts'
import type { Files, FilesRoot } from './files.ts'
import { filesPath, type Grant, verifiedGrant } from './signed-url.ts'

/** Returns a plugin with the routes behind signed URLs: `await http.register(serveFiles(files))`. */
export function serveFiles({ forModule, urlKeys, clock }: FilesRoot): (app: FastifyInstance) => Promise<void> {
  return async (app) => {
    // Every body is a stream to store, JSON too.
    app.removeAllContentTypeParsers()
    app.addContentTypeParser('*', (_request, payload, done) => done(null, payload))
    const route = { url: `${filesPath}/*`, schema: { hide: true } }
    app.route({ ...route, method: ['GET', 'HEAD'], handler: read })
    app.route({ ...route, method: 'PUT', handler: write })
  }

  function granted(request: FastifyRequest): Grant & { files: Files } {
    const { '*': full } = request.params as { '*': string }
    const query = request.query as Record<string, unknown>
    const grant = verifiedGrant({ key: full, method: request.method, query }, urlKeys, clock.now())
    const [module, ...rest] = full.split('/')
    return { ...grant, key: rest.join('/'), files: forModule(module!) }
  }

  async function read(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { files, key, filename } = granted(request)
    const { method, headers } = request
    const range = method === 'GET' ? parseRange(headers.range) : undefined
    let file = await files.get(key, range).catch((error) => {
      if (isRungError(error, 'FILES_RANGE')) reply.header('content-range', `bytes */${error.facts.size}`)
      throw error
    })
    if (range && 'if-range' in headers && headers['if-range'] !== tagOf(file)) {
      file.body.destroy()
      file = await files.get(key) // the client has a part of another content, so it gets all of this one
    }
    sendFacts(reply, file, filename)
    const unchanged = matches(headers['if-none-match'], file)
    const { start, end } = file.range
    const length = end - start + 1
    if (!unchanged) reply.header('content-length', length)
    if (unchanged || method === 'HEAD') {
      file.body.destroy()
      return reply.status(unchanged ? 304 : 200).send()
    }
    if (length < file.size) reply.status(206).header('content-range', `bytes ${start}-${end}/${file.size}`)
    return reply.send(file.body)
  }

  async function write(request: FastifyRequest, reply: FastifyReply): Promise<FastifyReply> {
    const { files, key, sizeMax, types } = granted(request)
    const body = (request.body ?? '') as Readable | ''
    const info = await files.put(key, body, { sizeMax: Number(sizeMax), ...(types && { types: types.split(',') }) })
    return reply.status(204).header('etag', tagOf(info)).send()
  }
}

/**
 * Sets headers with which a browser does nothing with a stranger's file but show or save it. The type is that of its bytes, and only images
 * are shown in place. If it is a document nevertheless, it has no scripts and no origin.
 */
function sendFacts(reply: FastifyReply, info: FileInfo, filename: string | undefined): FastifyReply {
  const { contentType } = info
  const shown = contentType.startsWith('image/') && filename === undefined
  return reply.headers({
    etag: tagOf(info),
    'accept-ranges': 'bytes',
    'cache-control': 'private, no-cache',
    'content-type': contentType.startsWith('text/') ? `${contentType}; charset=utf-8` : contentType,
    'content-disposition': shown ? 'inline' : attachment(filename),
    'content-security-policy': "default-src 'none'; frame-ancestors 'none'; sandbox",
    'x-content-type-options': 'nosniff',
  })
}

/** RFC 6266 with RFC 8187: the name in ASCII, and again in Unicode. */
function attachment(filename: string | undefined): string {
  if (filename === undefined) return 'attachment'
  const plain = filename.replace(/[^\x20-\x7e]|["\\%]/g, '_')
  const exact = encodeURIComponent(filename).replace(/['()*]/g, (sign) => `%${sign.charCodeAt(0).toString(16)}`)
  return `attachment; filename="${plain}"; filename*=UTF-8''${exact}`
}

function tagOf({ sha256 }: FileInfo): string {
  return `"${sha256}"`
}

/** Compares tags weakly (RFC 9110, 13.1.2). */
function matches(header: string | undefined, info: FileInfo): boolean {
  if (header === undefined) return false
  const tags = header.split(',').map((tag) => tag.trim().replace(/^W\//, ''))
  return tags.includes('*') || tags.includes(tagOf(info))
}

/** Parses a Range header with one range of bytes (RFC 9110, 14.1.2). Any other is ignored, as the RFC allows. */
function parseRange(header: string | undefined): Range | undefined {
  const match = /^bytes=(?:(\d{1,15})-(\d{0,15})|-(\d{1,15}))$/.exec(header ?? '')
  if (!match) return undefined
  const [, first, last, suffix] = match
  if (suffix !== undefined)
    return Number(suffix) === 0 ? { start: Number.MAX_SAFE_INTEGER } : { start: -Number(suffix) }
  if (last === '') return { start: Number(first) }
  return Number(last) < Number(first) ? undefined : { start: Number(first), end: Number(last) }
}
