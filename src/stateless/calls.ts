import type { Kept } from './finding.ts'
import type { Graph } from './graph.ts'
import { childrenOf, type Node, nameOf, type Tree } from './tree.ts'

type Call = Extract<Node, { type: 'CallExpression' | 'NewExpression' }>

/** Functions of `node:fs` that write, and which argument is the path that they write to. */
const writers: Record<string, number> = {
  ...{ writeFile: 0, appendFile: 0, createWriteStream: 0, mkdir: 0, truncate: 0 },
  ...{ rename: 1, copyFile: 1, cp: 1, link: 1, symlink: 1 },
}

/** Libraries that keep what they know in memory, unless one of these options names another store. */
const keepers: Record<string, readonly string[]> = {
  'express-session': ['store'],
  '@fastify/session': ['store'],
  'fastify-session': ['store'],
  '@fastify/rate-limit': ['redis', 'store'],
  'express-rate-limit': ['store'],
}

/** Libraries whose timers fire in each process. */
const schedulers = new Set(['node-cron', 'cron', 'croner', 'node-schedule', 'toad-scheduler'])

/** Calls of libraries and of Node that assume one process, or one machine. */
export function callFindings(graph: Graph): Kept[] {
  return graph.trees.flatMap((tree) =>
    tree.nodes.flatMap((node) => {
      if (node.type !== 'CallExpression' && node.type !== 'NewExpression') return []
      const found = disk(graph, tree, node) ?? keeper(graph, tree, node) ?? timer(graph, tree, node)
      return found ? [{ ...found, file: tree.source.file, line: tree.lineOf(node), changedAt: [] }] : []
    }),
  )
}

type Found = Omit<Kept, 'file' | 'line' | 'changedAt'> | undefined

function disk(graph: Graph, tree: Tree, call: Call): Found {
  const name = fsName(graph, tree, call.callee as Node)
  if (name === undefined) return undefined
  const plain = name.replace(/Sync$/, '')
  const argument =
    plain === 'open' ? (isWriteFlag(call.arguments[1] as Node | undefined) ? 0 : undefined) : writers[plain]
  if (argument === undefined || isTemporary(graph, tree, call.arguments[argument] as Node | undefined)) return undefined
  return {
    ...{ kind: 'disk', severity: 'look' },
    what: `${name} writes to the disk of one machine.`,
    remedy: 'Use files (put, get), which all processes share; a temporary file belongs below os.tmpdir().',
  }
}

/** `writeFile` for whatever a file calls that function of `node:fs`. */
function fsName(graph: Graph, tree: Tree, callee: Node): string | undefined {
  const origin = graph.originOf(tree, callee)
  if (!origin || !('from' in origin) || !/^(node:)?fs(\/promises)?$/.test(origin.from)) return undefined
  return origin.path.filter((name) => name !== 'default' && name !== 'promises')[0]
}

function isWriteFlag(flag: Node | undefined): boolean {
  return flag?.type === 'Literal' && /[wa+]/.test(String(flag.value))
}

/** Whether a path is made from `tmpdir()` or `mkdtemp()`: such a file is gone before anybody else could look for it. */
function isTemporary(graph: Graph, tree: Tree, node: Node | undefined, depth = 0): boolean {
  if (node === undefined || depth > 12) return false
  const again = (inner: Node) => isTemporary(graph, tree, inner, depth + 1)
  if (node.type === 'Literal') return /^\/(tmp|dev)\//.test(String(node.value))
  if (node.type === 'CallExpression') {
    const origin = graph.originOf(tree, node.callee as Node)
    if (origin && 'from' in origin && /^(node:)?os$/.test(origin.from) && origin.path.at(-1) === 'tmpdir') return true
    if (/^mkdtemp/.test(fsName(graph, tree, node.callee as Node) ?? '')) return true
  }
  if (node.type === 'Identifier') {
    const init = graph.ownOf(tree, node)?.init
    return init !== undefined && init !== node && again(init)
  }
  return childrenOf(node).some(again)
}

function keeper(graph: Graph, tree: Tree, call: Call): Found {
  const packageOf = (node: Node) => {
    const origin = graph.originOf(tree, node)
    return origin && 'from' in origin && Object.hasOwn(keepers, origin.from) ? origin.from : undefined
  }
  const own = packageOf(call.callee as Node)
  const given = call.arguments.findIndex((one) => packageOf(one as Node) !== undefined)
  const name = own ?? (given < 0 ? undefined : packageOf(call.arguments[given] as Node))
  if (name === undefined) return undefined
  if (own !== undefined && call.type === 'NewExpression') return undefined // a store of its own, which its session is given
  let options = call.arguments[own ? 0 : given + 1] as Node | undefined
  if (options?.type === 'Identifier') options = graph.ownOf(tree, options)?.init ?? options
  if (options !== undefined && options.type !== 'ObjectExpression') return undefined // not to be known from here
  const properties = options?.properties ?? []
  if (properties.some((one) => one.type === 'SpreadElement')) return undefined
  const store = properties.flatMap((one) =>
    one.type === 'Property' && keepers[name]!.includes(nameOf(one.key as Node)) ? [one.value as Node] : [],
  )[0]
  if (store !== undefined && !isMemoryStore(graph, tree, store)) return undefined
  return {
    ...{ kind: 'sessions', severity: 'act' },
    what: `${name} keeps what it knows in the memory of one process.`,
    remedy: /session/.test(name)
      ? "Use the app's own sessions (defineApp({ sessions })), or give it a store that all processes share."
      : "Use the app's own limits, or give it a store that all processes share.",
  }
}

function isMemoryStore(graph: Graph, tree: Tree, store: Node): boolean {
  if (store.type !== 'NewExpression') return false
  const origin = graph.originOf(tree, store.callee as Node)
  return origin !== undefined && 'from' in origin && /^MemoryStore$/.test(origin.path.at(-1) ?? '')
}

function timer(graph: Graph, tree: Tree, call: Call): Found {
  const origin = graph.originOf(tree, call.callee as Node)
  if (origin === undefined) return undefined
  if ('from' in origin && schedulers.has(origin.from)) {
    return {
      ...{ kind: 'timer', severity: 'act' },
      what: `${origin.from} fires in each process, so two do the work twice.`,
      remedy: 'Use cron(…) in the work of a module: of all processes one runs it.',
    }
  }
  const isTimers = 'from' in origin && /^(node:)?timers$/.test(origin.from)
  const name = isTimers ? origin.path.at(-1) : 'global' in origin ? [origin.global, ...origin.path].at(-1) : undefined
  const isGlobal = 'global' in origin && (origin.path.length === 0 || origin.global === 'globalThis')
  if (!(isTimers || isGlobal) || !/^set(Interval|Timeout)$/.test(name ?? '') || !graph.runsAtStart(tree, call))
    return undefined
  return {
    ...{ kind: 'timer', severity: 'look' },
    what: `${name} is started by each process, so two do its work twice.`,
    remedy: 'Use cron(…) or a job: of all processes one runs it.',
  }
}
