import { EventEmitter } from 'node:events';

const ESCAPE = new RegExp(`${String.fromCharCode(0x1b)}\\[(\\??[0-9;]*)([A-Za-z])`, 'y');
const WIDE = /[\u1100-\u115f\u2e80-\ua4cf\uac00-\ud7a3\uf900-\ufaff\uff00-\uff60]|\p{Emoji_Presentation}/u;

/** A terminal's screen: wrapped rows, the cursor, and whether it is visible. Wide letters are followed by an empty cell. */
export class Screen extends EventEmitter {
  readonly isTTY = true;
  rows: string[][] = [[]];
  row = 0;
  column = 0;
  isCursorShown = true;

  constructor(public columns: number) {
    super();
  }

  write(text: string): boolean {
    for (let at = 0; at < text.length; ) {
      ESCAPE.lastIndex = at;
      const code = ESCAPE.exec(text);
      if (code !== null) {
        this.#execute(code[1]!, code[2]!);
        at = ESCAPE.lastIndex;
        continue;
      }
      const character = String.fromCodePoint(text.codePointAt(at)!);
      this.#print(character);
      at += character.length;
    }
    return true;
  }

  /** Wraps the cursor's row again, as terminals do; the cursor stays on its letter. */
  resize(columns: number): void {
    const cells = this.rows[this.row]!;
    const wrapped: string[][] = [];
    for (let start = 0; start === 0 || start < cells.length; start += columns)
      wrapped.push(cells.slice(start, start + columns));
    this.rows.splice(this.row, 1, ...wrapped);
    this.row += Math.floor(this.column / columns);
    this.column %= columns;
    this.columns = columns;
    this.emit('resize');
  }

  shown(): string[] {
    const lines = this.rows.map((cells) => cells.join('').trimEnd());
    while (lines.length > 0 && lines.at(-1) === '') lines.pop();
    return lines;
  }

  #print(character: string): void {
    if (character === '\r') this.column = 0;
    else if (character === '\n') this.#nextRow();
    else {
      const width = WIDE.test(character) ? 2 : 1;
      if (this.column + width > this.columns) this.#nextRow();
      const cells = this.rows[this.row]!;
      while (cells.length < this.column) cells.push(' ');
      cells.splice(this.column, width, ...[character, ''].slice(0, width));
      this.column += width;
    }
  }

  #nextRow(): void {
    this.row += 1;
    this.column = 0;
    this.rows[this.row] ??= [];
  }

  #execute(argument: string, command: string): void {
    if (argument === '?25') this.isCursorShown = command === 'h';
    else if (command === 'K') this.rows[this.row]!.length = Math.min(this.rows[this.row]!.length, this.column);
    else if (command === 'J') {
      this.#execute('', 'K');
      this.rows.length = this.row + 1;
    } else if (command !== 'm') throw new Error(`unexpected code ${argument}${command}`);
  }
}
