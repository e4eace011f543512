/** A running hash over everything that happens in a run: two runs of one seed must end with the same one. */
const scratch = new DataView(new ArrayBuffer(8))

export class Digest {
  #high = 0x1b873593
  #low = 0x811c9dc5

  get hex(): string {
    return [this.#high, this.#low].map((word) => (word >>> 0).toString(16).padStart(8, '0')).join('')
  }

  add(value: number): void {
    scratch.setFloat64(0, value)
    this.#mix(scratch.getInt32(0))
    this.#mix(scratch.getInt32(4))
  }

  addText(text: string): void {
    for (let at = 0; at < text.length; at++) this.#mix(text.charCodeAt(at))
  }

  #mix(word: number): void {
    this.#low = Math.imul(this.#low ^ word, 0x9e3779b1)
    this.#low ^= this.#low >>> 15
    this.#high = Math.imul(this.#high ^ this.#low, 0x85ebca6b)
    this.#high ^= this.#high >>> 13
  }
}
