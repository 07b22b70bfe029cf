import assert from 'node:assert/strict'
import { after, before } from 'node:test'
import { s3Files } from '../../src/primitives/files/s3.ts'
import { noS3, s3AddressOf, type TestS3, testS3 } from '../support/s3.ts'
import { filesContract } from './files.ts'
import { uploadsContract } from './files-uploads.ts'

let s3: TestS3
before(async () => {
  if (!noS3) s3 = await testS3()
})
after(() => s3?.stop())

const opened = (prefix: string) => async () => {
  const url = await s3.bucket('contract')
  const address = { ...s3AddressOf(url), prefix }
  return { store: await s3Files(address, assert.ifError), close: async () => {} }
}

filesContract('s3', opened(''), noS3)
filesContract('s3, in a folder of a bucket', opened('an/app/'), noS3)
uploadsContract('s3', opened('uploads/'), noS3)
