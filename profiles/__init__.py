"""
The policies that come with the library: a package of data, installed as `jail.profiles`.
"""
