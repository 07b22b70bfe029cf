import assert from 'node:assert/strict'
import { spawnSync } from 'node:child_process'
import { test } from 'node:test'
import { parse } from 'yaml'
import { workflowFiles } from '../../src/export/workflow.ts'
import { pipeline } from '../support/exported.ts'

interface Job {
  needs?: string
  steps: { uses?: string; run?: string; if?: string }[]
}

for (const target of ['compose', 'kubernetes'] as const) {
  test(`a pipeline for ${target} checks before it ships, and all of its shell is shell`, () => {
    const files = workflowFiles(target, { ...pipeline, file: 'src/shop.ts', proof: 'src/prove.ts' })
    const { jobs } = parse(files['.github/workflows/ship.yaml']!) as { jobs: Record<string, Job> }
    assert.deepEqual(
      Object.entries(jobs).map(([name, { needs }]) => [name, needs]),
      [
        ['check', undefined],
        ['image', 'check'],
        ['roll-out', 'image'],
      ],
    )
    for (const { uses, run } of Object.values(jobs).flatMap(({ steps }) => steps)) {
      if (uses !== undefined)
        assert.match(uses, /^actions\//) // of GitHub itself
      else assert.equal(spawnSync('bash', ['-n', '-c', run!]).status, 0, run)
    }
    const [proof] = jobs.check!.steps.filter(({ run = '' }) => / prove /.test(run))
    assert.deepEqual(
      [proof!.if, proof!.run],
      ["hashFiles('src/prove.ts') != ''", 'npx rung prove 1k src/shop.ts --minutes 1'],
    )
    assert.match(jobs['roll-out']!.steps.at(-1)!.if!, /^failure\(\)/)
  })
}

test('a path that the shell of a pipeline would take for something else is refused', () => {
  for (const folder of ['$(id)', 'a b', '-x', '; id'])
    assert.throws(() => workflowFiles('compose', { ...pipeline, folder }), { code: 'CONFIG_INVALID' }, folder)
})
