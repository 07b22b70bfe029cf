import { placeOf } from '../../kernel/spread.ts'
import { openRedis, type RedisClient, type RedisClientOptions } from './client.ts'
import { slotOf, tagOf } from './slots.ts'

/**
 * A node of Redis and its part of an app's keys. All keys of the part have one hash tag, so a script may touch any of them, and the part
 * lies on one node of a cluster as a whole. Each part has a connection of its own: a node that is away takes only its part along.
 */
export interface RedisNode {
  readonly client: RedisClient
  /** What the keys of this part begin with: `{app}`. */
  readonly root: string
}

/** At least one. */
export type RedisNodes = readonly [RedisNode, ...RedisNode[]]

/** Returns the whole key of a name, and the connection to its node. */
export function keyOf(nodes: RedisNodes, name: string): { key: string; client: RedisClient } {
  const { client, root } = nodes[placeOf(name, nodes.length)]!
  return { key: `${root}:${name}`, client }
}

export interface RedisNodesOptions extends Omit<RedisClientOptions, 'url' | 'cluster'> {
  /** Of one Redis, or of nodes of one cluster, in any order; best is that of their slots. */
  urls: readonly string[]
  /** Over how many nodes the keys are spread. */
  nodes: number
  app: string
}

/** Connects to all nodes, and returns after the first attempts, whatever their outcome. @throws CONFIG_INVALID for a URL of another form */
export async function openRedisNodes({ urls, nodes, app, ...options }: RedisNodesOptions): Promise<RedisNodes> {
  const parts = Array.from({ length: nodes }, async (_, index): Promise<RedisNode> => {
    const tag = tagOf(app, index, nodes)
    const home = index % urls.length
    const others = [...urls.slice(home + 1), ...urls.slice(0, home)]
    const client = await openRedis({ ...options, url: urls[home]!, cluster: { others, slot: slotOf(tag) } })
    return { client, root: `{${tag}}` }
  })
  return (await Promise.all(parts)) as [RedisNode, ...RedisNode[]]
}
