/** What the tests use of it; the package brings no types. */
declare module 'picomatch' {
  export default function picomatch(
    pattern: string,
    options?: { readonly dot?: boolean; readonly strictSlashes?: boolean },
  ): (name: string) => boolean;
}
