import { createHash } from 'node:crypto'
import { readdir, readFile, stat } from 'node:fs/promises'
import path from 'node:path'
import { fileURLToPath } from 'node:url'
import type { FastifyInstance } from 'fastify'
import { messageOf, RungError } from '../../kernel/errors.ts'

const prefix = '/-/assets'
/** Assets are held in memory. A larger file belongs in the file store (`files.url`) or on a CDN. */
const bytesMax = 4 * 1024 ** 2

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
  content: Buffer
}

/** A module's files for browsers. */
export interface Assets {
  /**
   * Returns the path of a file, such as `style.css`. The path contains the file's hash, so browsers may keep the file for ever.
   * @throws APP_INVALID if there is no such file
   */
  urlOf(name: string): string
  serve(app: FastifyInstance): void
}

/**
 * Reads folders and files, once. A path with an outdated hash is answered with the current file, which nobody keeps: while processes are replaced,
 * a page from one process loads files from another.
 * @throws APP_INVALID if one of them cannot be read, or a file is too large or of an unknown type
 */
export async function loadAssets(module: string, declared: URL | readonly URL[] = []): Promise<Assets> {
  const assets = new Map<string, Asset>()
  const places = [declared].flat().map((url) => fileURLToPath(url))
  for (const place of places) {
    for (const [name, file] of await filesAt(module, place)) assets.set(name, assetOf(name, await readFile(file)))
  }
  return {
    urlOf(name) {
      const asset = assets.get(name)
      if (asset) return `${prefix}/${module}/${asset.name}`
      const reason =
        places.length === 0 ? 'The module has no folder of `assets`' : `There is no such file in ${places.join(', ')}`
      throw new RungError('APP_INVALID', `Module "${module}" has no asset "${name}". ${reason}.`)
    },
    serve(app) {
      if (assets.size === 0) return
      app.get(
        `${prefix}/${module}/*`,
        { schema: { hide: true }, config: { limits: false, priority: 'critical' } as never },
        (request, reply) => {
          const requested = (request.params as { '*': string })['*']
          const asset = assets.get(requested) ?? assets.get(requested.replace(/\.[\w-]{12}(\.[^./]+)$/, '$1'))
          if (!asset) return reply.callNotFound()
          const isCurrent = asset.name === requested
          reply.headers({
            'cache-control': isCurrent ? 'public, max-age=31536000, immutable' : 'no-cache',
            'content-type': asset.type,
            etag: asset.etag,
          })
          const known = request.headers['if-none-match']?.replace(/^W\//, '') // weak if it was sent compressed
          return known === asset.etag ? reply.status(304).send() : reply.send(asset.content)
        },
      )
    },
  }
}

/** Returns the files of a folder, by their paths in it, or the one file that this is, by its name. */
async function filesAt(module: string, place: string): Promise<[name: string, file: string][]> {
  const isFile = (await stat(place).catch(() => undefined))?.isFile()
  if (isFile) return [[path.basename(place), place]]
  const entries = await readdir(place, { recursive: true, withFileTypes: true }).catch((cause) => {
    const message = `The assets of module "${module}" cannot be read: ${messageOf(cause)}.`
    throw new RungError('APP_INVALID', message, { cause })
  })
  return entries
    .filter((entry) => entry.isFile() && !entry.name.startsWith('.'))
    .map((entry) => path.join(entry.parentPath, entry.name))
    .map((file) => [path.relative(place, file).split(path.sep).join('/'), file])
}

function assetOf(name: string, content: Buffer): Asset {
  const extension = path.extname(name)
  const type = types[extension.slice(1)]
  if (!type)
    throw new RungError(
      'APP_INVALID',
      `The asset "${name}" has an unknown type. Use one of: ${Object.keys(types).join(', ')}.`,
    )
  if (content.length > bytesMax) {
    throw new RungError(
      'APP_INVALID',
      `The asset "${name}" has ${content.length} bytes, more than ${bytesMax}. Put it into the file store or on a CDN.`,
    )
  }
  const hash = createHash('sha256').update(content).digest('base64url').slice(0, 12)
  const hashed = `${name.slice(0, -extension.length)}.${hash}${extension}`
  return { name: hashed, type, etag: `"${hash}"`, content }
}
