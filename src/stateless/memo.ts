import type { Change, Slot } from './changes.ts'
import type { Graph } from './graph.ts'
import { homeOf, isFunction, type Node, type Tree } from './tree.ts'

/**
 * Whether changes only keep what was computed, so that another process computes the same: `pure`, or `loaded` if the computation waits for
 * something outside, which may have another answer later.
 */
export function memoOf(graph: Graph, slot: Slot, changes: readonly Change[]): 'pure' | 'loaded' | undefined {
  const kept = changes.filter(({ how }) => how !== 'clear')
  if (kept.length === 0 || !kept.every((change) => isMemo(graph, slot, change))) return undefined
  const isAssigned = kept.every(({ how }) => how === 'assign')
  return isAssigned || !kept.some(({ tree, node }) => isAsync(tree, node)) ? 'pure' : 'loaded'
}

function isMemo(graph: Graph, slot: Slot, { tree, node, how, value }: Change): boolean {
  if (how === 'other' || value === undefined || !isComputed(graph, slot, tree, value)) return false
  const up = tree.parent(node)!
  if (up.type === 'AssignmentExpression' && up.operator !== '=') return true
  const home = homeOf(tree, node)
  const reads = slot.mentions.filter((one) => one.tree === tree && one.node !== node && homeOf(tree, one.node) === home)
  // A Map is asked before it is filled; a variable is compared with nothing.
  if (how === 'put') return reads.some((one) => !isWithin(tree, one.node, up))
  return reads.some(({ node: read }) => {
    const around = tree.parent(read)!
    if (around.type === 'UnaryExpression') return around.operator === '!'
    if (around.type === 'BinaryExpression') return /^[!=]==?$/.test(around.operator)
    return (
      (around.type === 'IfStatement' && around.test === read) ||
      (around.type === 'LogicalExpression' && around.left === read)
    )
  })
}

/** Whether a value is what a function returned, and not what a caller brought, or the former value changed. */
function isComputed(graph: Graph, slot: Slot, tree: Tree, value: Node, depth = 0): boolean {
  const again = (node: Node) => depth < 8 && isComputed(graph, slot, tree, node, depth + 1)
  switch (value.type) {
    case 'CallExpression':
    case 'NewExpression':
    case 'AwaitExpression':
    case 'TaggedTemplateExpression':
    case 'ImportExpression':
    case 'BinaryExpression':
    case 'TemplateLiteral':
      return !mentions(slot, tree, value)
    case 'Literal':
      return 'regex' in value && value.regex !== undefined
    case 'MemberExpression':
      return again(value.object as Node)
    case 'LogicalExpression':
      return again(value.right as Node)
    case 'ConditionalExpression':
      return again(value.consequent as Node) || again(value.alternate as Node)
    case 'ArrayExpression':
      return value.elements.every((one) => one !== null && again(one as Node))
    case 'ObjectExpression':
      return value.properties.every((one) => one.type === 'Property' && again(one.value as Node))
    case 'Identifier': {
      const binding = tree.bindingOf(value)
      if (binding === undefined || binding.kind === 'param') return false
      const first = binding.init ?? binding.takenFrom
      if (binding.kind === 'const') return first !== undefined && again(first)
      return binding.uses.some((use) => {
        const up = tree.parent(use)
        return up?.type === 'AssignmentExpression' && up.left === use && up.operator === '=' && again(up.right as Node)
      })
    }
    default:
      return false
  }
}

function mentions(slot: Slot, tree: Tree, node: Node): boolean {
  return slot.mentions.some(
    (one) => one.tree === tree && isWithin(tree, one.node, node) && !isInFunction(tree, one.node, node),
  )
}

function isInFunction(tree: Tree, node: Node, top: Node): boolean {
  for (let at: Node | undefined = node; at && at !== top; at = tree.parent(at)) if (isFunction(at)) return true
  return false
}

function isWithin(tree: Tree, node: Node, outer: Node): boolean {
  for (let at: Node | undefined = node; at; at = tree.parent(at)) if (at === outer) return true
  return false
}

function isAsync(tree: Tree, node: Node): boolean {
  const home = homeOf(tree, node)
  return isFunction(home) && home.async
}
