import assert from 'node:assert/strict'
import { describe, it } from 'node:test'
import { isRungError } from '../../src/kernel/errors.ts'
import { homesOf } from '../../src/runtime/homes.ts'

const modules = ['people', 'desk', 'press', 'media'].map((name) => ({ name }) as never)
const groups = [
  { name: 'folk', modules: ['people'], web: 1, worker: 0, connections: 5 },
  { name: 'paper', modules: ['press'], web: 0, worker: 1, connections: 5 },
  { name: 'images', modules: ['media'], web: 2, worker: 2, connections: 5 },
]
const seenBy = (group: string | undefined) => homesOf({ modules }, { group, groups })
const all = ['people', 'desk', 'press', 'media']

describe('where modules are at home', () => {
  it('a group takes over what it has processes for', () => {
    for (const [group, answers, works, here] of [
      [undefined, ['desk', 'press'], ['people', 'desk'], ['desk', 'press']],
      ['folk', ['people'], [], ['people']],
      ['paper', [], ['press'], ['press']],
      ['images', ['media'], ['media'], ['media']],
    ] as const) {
      const homes = seenBy(group)
      assert.deepEqual(all.filter(homes.answers), answers, `${group} answers`)
      assert.deepEqual(all.filter(homes.works), works, `${group} works`)
      assert.deepEqual(all.filter(homes.isHere), here, `${group} has`)
    }
  })

  it('a call is led to the group that answers it', () => {
    assert.deepEqual(all.map(seenBy('paper').targetOf), ['folk', 'core', 'core', 'images'])
  })

  it('everything is at home where nobody has a group', () => {
    const homes = homesOf({ modules }, { group: undefined, groups: [] })
    for (const name of all) assert.ok(homes.isHere(name) && homes.answers(name) && homes.works(name))
  })

  it('refuses a module that the app does not have, and says which one may be meant', () => {
    const wrong = [{ name: 'folk', modules: ['peple'], web: 1, worker: 0, connections: 5 }]
    assert.throws(
      () => homesOf({ modules }, { group: undefined, groups: wrong }),
      (error) => isRungError(error, 'CONFIG_INVALID') && /Write people\./.test(error.message),
    )
  })
})
