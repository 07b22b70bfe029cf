import assert from 'node:assert/strict'
import { readFileSync } from 'node:fs'
import { test } from 'node:test'
import { settingsDocument, settingsFile } from '../../scripts/settings.ts'

test('docs/settings.md is made from the table of settings', () => {
  assert.equal(readFileSync(settingsFile, 'utf8'), settingsDocument(), 'run: node scripts/settings.ts')
})
