import { Ajv, type ValidateFunction } from 'ajv'
import formats from 'ajv-formats'
import type { TSchema } from 'typebox'
import { type ErrorCode, RungError } from './errors.ts'

/** A value as it arrives elsewhere: its JSON, and what is read back from that (dates are text by then). */
export interface AsJson {
  json: string
  value: unknown
}

let compiler: Ajv | undefined

/**
 * Gives the check of a schema, which is compiled when it is first needed. The validator is the one that requests are
 * checked with: a second library for schemas would be 10 MiB in every process.
 */
export function jsonCheck(schema: TSchema, code: ErrorCode, subject: string): (value: unknown) => AsJson {
  let validate: ValidateFunction | undefined
  return (value) => {
    validate ??= compile(schema)
    const json = JSON.stringify(value)
    const copy = json === undefined ? undefined : JSON.parse(json)
    if (validate(copy)) return { json, value: copy }
    const [first] = validate.errors ?? []
    throw new RungError(
      code,
      `${subject} does not match its schema: ${first?.instancePath || '/'} ${first?.message ?? 'is wrong'}.`,
    )
  }
}

function compile(schema: TSchema): ValidateFunction {
  if (!compiler) {
    compiler = new Ajv({ strict: false, allErrors: false })
    formats.default(compiler)
  }
  return compiler.compile(schema)
}
