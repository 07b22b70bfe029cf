import { createHash } from 'node:crypto'
import { readdir, readFile } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import { promisify } from 'node:util'
import { brotliCompress, constants, gzip } from 'node:zlib'
import type { FastifyInstance, FastifyReply, FastifyRequest } from 'fastify'
import { messageOf, RungError } from '../../kernel/errors.ts'
import { acceptedEncoding } from './compression.ts'
import { oncePromised } from './once.ts'
import { varyBy } from './vary.ts'

const prefix = '/-/assets'
/** They are held in memory; what is larger is a file (`files.url`), or belongs to a CDN. */
const bytesMax = 4 * 1024 ** 2
/** Smaller ones are one packet with or without it. */
const compressedFrom = 1_024

const types: Record<string, string> = {
  css: 'text/css; charset=utf-8',
  js: 'text/javascript; charset=utf-8',
  json: 'application/json; charset=utf-8',
  map: 'application/json; charset=utf-8',
  webmanifest: 'application/manifest+json; charset=utf-8',
  txt: 'text/plain; charset=utf-8',
  svg: 'image/svg+xml; charset=utf-8',
  png: 'image/png',
  jpg: 'image/jpeg',
  webp: 'image/webp',
  avif: 'image/avif',
  ico: 'image/x-icon',
  woff2: 'font/woff2',
}

interface Asset {
  /** With its hash. */
  name: string
  type: string
  etag: string
  /** By content encoding. */
  forms: Map<'br' | 'gzip' | 'identity', () => Promise<Buffer> | Buffer>
}

/** A module's files for browsers. */
export interface Assets {
  /**
   * Where browsers find `style.css`: under a name that has its hash, so that they may keep it for ever.
   * @throws APP_INVALID where there is no such file
   */
  urlOf(name: string): string
  serve(app: FastifyInstance): void
}

/**
 * Reads a folder, once. A name with a hash that is not the current one is answered with what there is now and kept by nobody: while
 * processes are replaced, pages of the one ask for files of the other.
 * @throws APP_INVALID
 */
export async function loadAssets(module: string, folder: URL | undefined): Promise<Assets> {
  const assets = new Map<string, Asset>()
  const root = folder && fileURLToPath(folder)
  for (const [name, file] of root === undefined ? [] : await filesIn(module, root)) {
    assets.set(name, assetOf(name, await readFile(file)))
  }
  const urlOf = ({ name }: Asset) => `${prefix}/${module}/${name}`
  return {
    urlOf(name) {
      const asset = assets.get(name)
      if (asset) return urlOf(asset)
      throw new RungError(
        'APP_INVALID',
        `Module "${module}" has no asset "${name}"${root === undefined ? ': it names no folder of `assets`' : ` in ${root}`}.`,
      )
    },
    serve(app) {
      if (assets.size === 0) return
      app.get(
        `${prefix}/${module}/*`,
        { schema: { hide: true }, config: { limits: false, priority: 'critical' } as never },
        (request, reply) => {
          const asked = (request.params as { '*': string })['*']
          const asset = assets.get(asked) ?? assets.get(asked.replace(/\.[\w-]{12}(\.[^./]+)$/, '$1'))
          if (!asset) return reply.callNotFound()
          return send(asset, asset.name === asked, request, reply)
        },
      )
    },
  }
}

async function filesIn(module: string, root: string): Promise<[name: string, file: string][]> {
  const entries = await readdir(root, { recursive: true, withFileTypes: true }).catch((cause) => {
    const message = `The assets of module "${module}" cannot be read: ${messageOf(cause)}.`
    throw new RungError('APP_INVALID', message, { cause })
  })
  return entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => [path.relative(root, file).split(path.sep).join('/'), file])
}

function assetOf(name: string, content: Buffer): Asset {
  const extension = path.extname(name)
  const type = types[extension.slice(1)]
  if (!type)
    throw new RungError(
      'APP_INVALID',
      `The asset "${name}" is of a kind that is not known. Known are: ${Object.keys(types).join(', ')}.`,
    )
  if (content.length > bytesMax) {
    throw new RungError(
      'APP_INVALID',
      `The asset "${name}" has ${content.length} bytes; ${bytesMax} are the most. Put it into files, or on a CDN.`,
    )
  }
  const hash = createHash('sha256').update(content).digest('base64url').slice(0, 12)
  return {
    name: `${name.slice(0, -extension.length)}.${hash}${extension}`,
    type,
    etag: `"${hash}"`,
    forms: formsOf(type, content),
  }
}

/** Compressed when it is first asked for: most processes are asked for one form, and some for none. */
function formsOf(type: string, content: Buffer): Asset['forms'] {
  const forms: Asset['forms'] = new Map([['identity', () => content]])
  if (!type.includes('charset') || content.length < compressedFrom) return forms
  const params = { [constants.BROTLI_PARAM_QUALITY]: constants.BROTLI_MAX_QUALITY }
  return forms
    .set(
      'br',
      oncePromised(() => promisify(brotliCompress)(content, { params })),
    )
    .set(
      'gzip',
      oncePromised(() => promisify(gzip)(content, { level: constants.Z_BEST_COMPRESSION })),
    )
}

async function send(
  asset: Asset,
  lasting: boolean,
  request: FastifyRequest,
  reply: FastifyReply,
): Promise<FastifyReply> {
  const accepted = acceptedEncoding(request)
  const encoding = accepted && asset.forms.has(accepted) ? accepted : undefined
  varyBy(reply, ['accept-encoding'])
  reply.headers({
    'cache-control': lasting ? 'public, max-age=31536000, immutable' : 'no-cache',
    'content-type': asset.type,
    etag: asset.etag,
    ...(encoding && { 'content-encoding': encoding }),
  })
  if (request.headers['if-none-match'] === asset.etag) return reply.status(304).send()
  return reply.send(await asset.forms.get(encoding ?? 'identity')!())
}
