import { findNodes, lineAt, type SqlNodes, type SqlTag, type Statement } from '../../engines/postgres/parser.ts'
import { schemaOf, wordsOf } from '../../primitives/data/boundary.ts'
import { qualified, type Step } from './rule.ts'

/** Schema, if given, and table. */
type Words = readonly string[]
type Fields = { [field in string]?: unknown }

/** Flattens the statements of a file to single actions, in order. */
export function stepsOf(file: { text: string; statements: readonly Statement[]; module: string }): Step[] {
  const { statements, module } = file
  const bytes = Buffer.from(file.text)
  const steps: Step[] = []
  const made = new Set<string>()

  function fullName(words: Words): string {
    return [schemaOf(module), ...words].slice(-2).join('.')
  }

  for (const [at, { ast, line, offset, text }] of statements.entries()) {
    const end = offset + text.length
    const [[tag, node]] = Object.entries(ast) as [[SqlTag, Fields]]
    const subjects = subjectsOf(node)
    const add = (tag: SqlTag, node: object, words: Words, location?: number, column?: Step['column']): void => {
      steps.push({
        tag,
        node,
        at,
        line: location === undefined ? line : lineAt(bytes, location),
        source: location === undefined ? text : file.text.slice(bytes.toString('utf8', 0, location).length, end),
        table: qualified(words),
        fullName: fullName(words),
        isNew: words.length > 0 && made.has(fullName(words)),
        column,
      })
    }
    const wasNew = made.has(fullName(subjects[0] ?? []))
    for (const words of madeBy(tag, node, wasNew)) made.add(fullName(words))
    for (const words of subjects.length > 0 ? subjects : [[]]) add(tag, node, words)
    for (const write of ['UpdateStmt', 'DeleteStmt'] as const) {
      if (tag === 'CreateFunctionStmt' || tag === 'RuleStmt') break // their bodies run later
      for (const nested of findNodes(node, write)) add(write, nested, wordsOfRelation(nested.relation))
    }
    for (const command of findNodes(node.cmds, 'AlterTableCmd')) {
      const table = subjects[0]!
      const column = command.subtype === 'AT_AddColumn' ? findNodes(command.def, 'ColumnDef')[0] : undefined
      const constraints = findNodes(column?.constraints ?? command.def, 'Constraint')
      const partition = findNodes(command.def, 'PartitionCmd')[0]
      const { location } = findNodes(command.def, 'ColumnDef')[0] ?? constraints[0] ?? partition?.name ?? {}
      add('AlterTableCmd', command, table, location)
      if (column) add('ColumnDef', column, table, location, column)
      for (const constraint of constraints) add('Constraint', constraint, table, constraint.location, column)
      if (command.subtype === 'AT_AttachPartition' && node.objtype === 'OBJECT_TABLE') {
        add('PartitionCmd', partition!, wordsOfRelation(partition!.name), location)
      }
      for (const change of findNodes(command.def, 'ATAlterConstraint')) add('ATAlterConstraint', change, table)
    }
  }
  return steps
}

function wordsOfRelation(relation: unknown): Words {
  const { schemaname, relname } = (relation ?? {}) as SqlNodes['RangeVar']
  return [schemaname, relname].filter((word) => word !== undefined)
}

/** The relations or types that a statement affects. */
function subjectsOf(node: Fields): Words[] {
  const many = [node.relations ?? node.rels ?? []].flat() as { RangeVar?: unknown; VacuumRelation?: Fields }[]
  const relations = [
    node.relation,
    node.view,
    (node.into as Fields | undefined)?.rel,
    ...many.map((each) => each.RangeVar ?? each.VacuumRelation?.relation),
  ]
  const named = [node.objects ?? node.object ?? []].flat()
  const all = [...relations.map(wordsOfRelation), ...named.map(wordsOf), wordsOf(node.typeName)]
  return all.filter((words) => words.length > 0)
}

/** The names of what a statement creates. With IF NOT EXISTS it may exist already, and be large. */
function madeBy(tag: SqlTag, node: Fields, wasNew: boolean): Words[] {
  const [subject = []] = subjectsOf(node)
  const besides = (name: unknown): Words[] => (typeof name === 'string' ? [[...subject.slice(0, -1), name]] : [])
  if (node.if_not_exists) return []
  if (tag === 'CreateStmt' || tag === 'CreateTableAsStmt' || tag === 'CreateEnumStmt') return [subject]
  if (tag === 'IndexStmt') return besides(node.idxname)
  if (tag === 'RenameStmt' && node.renameType === 'OBJECT_TABLE' && wasNew) return besides(node.newname)
  return []
}
