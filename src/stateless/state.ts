import { type Change, changeAt, containerOf, isLater, type Slot } from './changes.ts'
import type { Kept } from './finding.ts'
import type { Graph } from './graph.ts'
import { memoOf } from './memo.ts'
import { type Binding, type Class, homeOf, isClass, isFunction, type Node, nameOf, type Tree } from './tree.ts'

const changesShown = 5

/** Variables, fields and globals that live as long as the process, and that requests change. */
export function stateFindings(graph: Graph): Kept[] {
  return [...variables(graph), ...fields(graph), ...globals(graph)].flatMap((slot) => {
    const changes = slot.mentions
      .flatMap(({ tree, node }) => changeAt(graph, slot, tree, node) ?? [])
      .filter((change) => isLater(graph, slot, change))
    return changes.length === 0 ? [] : (describe(graph, slot, changes) ?? [])
  })
}

function describe(graph: Graph, slot: Slot, changes: readonly Change[]): Kept | undefined {
  const memo = memoOf(graph, slot, changes)
  if (memo === 'pure') return undefined
  const places = changes.map(({ tree, node }) => `${tree.source.file}:${tree.lineOf(node)}`)
  const place = {
    file: slot.tree.source.file,
    line: slot.tree.lineOf(slot.declared),
    changedAt: [...new Set(places)].slice(0, changesShown),
  }
  if (memo === 'loaded') {
    return {
      ...{ kind: 'cache', severity: 'look', ...place },
      what: `"${slot.label}" keeps answers in the memory of one process, which does not hear when another one changes them.`,
      remedy: 'Use cache.get with tags.',
    }
  }
  const container = containerOf(graph, slot.tree, slot.init)
  const what =
    container === 'array' ? 'an array' : container === 'object' ? 'an object' : `a ${container ?? 'variable'}`
  return {
    ...{ kind: 'state', severity: 'act', ...place },
    what: `"${slot.label}" is ${what} in the memory of one process, and requests change it.`,
    remedy: 'Keep it in a table, a session or cache.get, which all processes share.',
  }
}

/** `let`, `const` … of files and of what runs once. */
function variables(graph: Graph): Slot[] {
  return graph.trees.flatMap((tree) =>
    tree.bindings
      .filter(({ kind, home }) => kind !== 'import' && kind !== 'param' && graph.lasts(home))
      .map((binding) => ({
        ...{ label: binding.name, tree, declared: binding.id, init: binding.init, home: binding.home },
        mentions: [...graph.usesOf(binding), ...thisIn(tree, binding)],
      })),
  )
}

/** `this` in the methods of an object that a binding holds. */
function thisIn(tree: Tree, { init }: Binding): { tree: Tree; node: Node }[] {
  if (init?.type !== 'ObjectExpression') return []
  return tree.nodes
    .filter((node) => {
      if (node.type !== 'ThisExpression') return false
      const up = methodOf(tree, node)
      return up?.type === 'Property' && tree.parent(up) === init
    })
    .map((node) => ({ tree, node }))
}

/** What holds the function, or the field, to which a `this` belongs. */
function methodOf(tree: Tree, node: Node): Node | undefined {
  for (let at: Node = node, up = tree.parent(at); up; at = up, up = tree.parent(at)) {
    if (isFunction(up) && up.type !== 'ArrowFunctionExpression') return tree.parent(up)
    if (up.type === 'PropertyDefinition' || up.type === 'StaticBlock') return up
  }
  return undefined
}

/** Fields of classes: static ones, and those of instances that are made once in a process. */
function fields(graph: Graph): Slot[] {
  return graph.trees.flatMap((tree) => tree.nodes.filter(isClass).flatMap((of) => fieldsOf(graph, tree, of)))
}

function fieldsOf(graph: Graph, tree: Tree, of: Class): Slot[] {
  const name = of.id?.name ?? 'class'
  const outer = homeOf(tree, of)
  const found = new Map<string, { isStatic: boolean; mentions: { tree: Tree; node: Node }[] }>()
  const binding = of.id ? tree.bindingOf(of.id) : undefined
  function mention(field: string, isStatic: boolean, at: Tree, node: Node): void {
    const key = `${isStatic}${field}`
    const known = found.get(key) ?? { isStatic, mentions: [] }
    known.mentions.push({ tree: at, node })
    found.set(key, known)
  }
  for (const node of tree.nodes) {
    if (node.type !== 'MemberExpression' || node.computed || node.object.type !== 'ThisExpression') continue
    const member = methodOf(tree, node)
    if (member === undefined || tree.parent(member) !== of.body) continue
    const isStatic = member.type === 'StaticBlock' || ('static' in member && member.static)
    mention(nameOf(node.property as Node), isStatic, tree, node)
  }
  for (const use of binding ? graph.usesOf(binding) : []) {
    const up = use.tree.parent(use.node)
    if (up?.type === 'MemberExpression' && up.object === use.node && !up.computed) {
      mention(nameOf(up.property as Node), true, use.tree, up)
    }
  }
  return [...found].flatMap(([key, { isStatic, mentions }]) => {
    if (!graph.lasts(isStatic ? outer : of)) return []
    const field = key.slice(String(isStatic).length)
    const definition = (of.body.body as Node[]).find(
      (one) =>
        one.type === 'PropertyDefinition' &&
        one.static === isStatic &&
        !one.computed &&
        nameOf(one.key as Node) === field,
    )
    const given = definition?.type === 'PropertyDefinition' ? (definition.value as Node | null) : undefined
    const init = given ?? mentions.map((one) => assigned(one.tree, one.node)).find((value) => value !== undefined)
    const declared = definition ?? mentions[0]!.node
    return [{ label: `${name}.${field}`, tree, declared, init, home: isStatic ? outer : of, mentions }]
  })
}

function assigned(tree: Tree, node: Node): Node | undefined {
  const up = tree.parent(node)
  return up?.type === 'AssignmentExpression' && up.left === node ? (up.right as Node) : undefined
}

/** `globalThis.count`. */
function globals(graph: Graph): Slot[] {
  const found = new Map<string, Slot & { mentions: { tree: Tree; node: Node }[] }>()
  for (const tree of graph.trees) {
    for (const node of tree.nodes) {
      if (node.type !== 'MemberExpression' || node.computed || node.object.type !== 'Identifier') continue
      if (!['globalThis', 'global'].includes(node.object.name) || tree.bindingOf(node.object)) continue
      const label = `globalThis.${nameOf(node.property as Node)}`
      const slot = found.get(label) ?? {
        ...{ label, tree, declared: node, init: assigned(tree, node), home: tree.parsed.program, mentions: [] },
      }
      slot.mentions.push({ tree, node })
      found.set(label, slot)
    }
  }
  return [...found.values()]
}
