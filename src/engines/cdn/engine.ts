import type { Engine } from '../process/engine.ts'

/** A CDN in front of everything, run by its vendor. */
export const cdn: Engine = {
  name: 'cdn',
  product: 'a CDN',
  part: 'cdn',
  side: 'front',
  use: (topology) => (topology.cdn === undefined ? 'none' : 'external'),
  describe: ({ cdn: { name, id } }) => (name === 'fastly' ? `Fastly, service ${id}` : `Cloudflare, zone ${id}`),
}
