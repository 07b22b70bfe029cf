import { type PageCacheAddress, purgeTags } from '../../engines/nginx/client.ts'
import type { PageEdge } from './contract.ts'

/** The page cache that Rung itself runs. */
export function nginxEdge(address: PageCacheAddress): PageEdge {
  return { purge: (tags) => purgeTags(address, tags) }
}
