import { shownUrl } from '../public-url.ts'

/** Where what lies. The keys follow from the upload's number alone, so that what a killed run left is found again. */

/** Of what is sent. */
export const bytesMax = 5 * 1024 ** 2
export const sizes = [64, 256, 512] as const
const shownSize = 256

export const originalKey = (uploadId: number) => `originals/${uploadId}`
export const sizeKey = (uploadId: number, size: number) => `sizes/${uploadId}/${size}.webp`

/** With a digest of the content: what is behind a URL never changes, and may be kept for ever. */
const nameOf = (uploadId: number, sha256: string) => `${uploadId}-${sha256.slice(0, 20)}`

export function avatarUrl(uploadId: number, sha256: string): string {
  return shownUrl(`/api/avatars/${nameOf(uploadId, sha256)}/${shownSize}.webp`)
}

/** One that was made here, and not an address elsewhere. */
export function isAvatarUrl(image: string | null): boolean {
  return image?.startsWith(shownUrl('/api/avatars/')) ?? false
}

/** The key that a URL's parts mean, and the digest that its file must have; `undefined` for any other text. */
export function keyIn(name: string, file: string): { key: string; digest: string } | undefined {
  const [, uploadId, digest] = /^([1-9]\d{0,15})-([0-9a-f]{20})$/.exec(name) ?? []
  const [, size] = /^([1-9]\d{1,3})\.webp$/.exec(file) ?? []
  if (digest === undefined || !sizes.some((known) => String(known) === size)) return undefined
  return { key: sizeKey(Number(uploadId), Number(size)), digest }
}
