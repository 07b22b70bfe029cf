/** Writes docs/settings.md from the table of settings; a test compares the two. */
import { writeFileSync } from 'node:fs'
import path from 'node:path'
import { rungs } from '../src/topology/catalog.ts'
import { allSettings } from '../src/topology/read-settings.ts'
import type { Mode, Setting } from '../src/topology/settings.ts'

export const settingsFile = path.resolve(import.meta.dirname, '../docs/settings.md')

export function settingsDocument(): string {
  const rows = [...allSettings].map(([name, row]) => {
    const { variable, option, inFile, help } = row
    const cells = [
      `\`${variable}\``,
      inFile ? `\`${name}\`` : '',
      option === undefined ? '' : option === 'rung' ? '`rung up 10k`' : `\`--${option}\``,
      defaultOf(row),
      help.replaceAll('|', '\\|'),
    ]
    return `| ${cells.join(' | ')} |`
  })
  return `# Settings

Made from \`src/topology/settings.ts\` by \`node scripts/settings.ts\`; do not edit.

Every command reads its settings in the same way: \`rung.config.ts\` beside the app, otherwise in the folder that the command runs in
(\`RUNG_CONFIG\` names another file); the environment wins over it, and options win over both. A value that is wrong stops the start with
one sentence. A setting without a name for the file is a secret, or belongs to one process.

\`\`\`ts
import { defineTopology } from 'rung'

export default defineTopology({ rung: '10k', processes: { web: 2 }, log: { level: 'warn' } })
\`\`\`

A staging copy and the fleet of \`rung prove\` are isolated: settings that lead to what others rely on are not used there. They are
${isolatedFrom()}.

| variable | in the file | option | default | meaning |
|---|---|---|---|---|
${rows.join('\n')}
`
}

function isolatedFrom(): string {
  return [...allSettings.values()].flatMap(({ variable, outside }) => (outside ? [`\`${variable}\``] : [])).join(', ')
}

/** The default, with the rungs and modes in which it is another one. */
function defaultOf(row: Setting): string {
  const value = (rung: keyof typeof rungs, mode: Mode) => {
    const otherwise = row.default({ preset: rungs[rung], mode })
    return otherwise === undefined ? '' : row.type.format(otherwise as never)
  }
  const usual = value('1k', 'production')
  const others = [
    ...Object.keys(rungs).map((rung) => [rung, value(rung as keyof typeof rungs, 'production')] as const),
    ...(['development', 'test'] as const).map((mode) => [mode, value('1k', mode)] as const),
  ].filter(([, other]) => other !== usual)
  return [usual, ...others.map(([where, other]) => `${where}: ${other}`)].filter(Boolean).join('; ')
}

if (process.argv[1] === import.meta.filename) writeFileSync(settingsFile, settingsDocument())
